"""Files are whole or absent."""

import errno
import os
import re
import subprocess
import sys

import pytest

from pydyn.files import HOST, TEMPORARY_MARK, append_text, in_a_line, whole_or_absent, write_text


def test_a_written_file_is_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "sub" / "file.txt", "text")
    assert (tmp_path / "sub" / "file.txt").read_text() == "text"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), whole_or_absent(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "file.txt"
    code = f"""
import errno
import os
import re
from pydyn.files import whole_or_absent
with whole_or_absent({str(path)!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_left_overs_are_told_by_the_whole_name_and_by_the_machine(tmp_path):
    """Of other machines one cannot tell which processes live."""
    left, *others = (
        tmp_path / f".{name}{TEMPORARY_MARK}{host}-{2**22 + 1}"  # a process that cannot be
        for name, host in (("a[1].txt", HOST), ("a1.txt", HOST), ("a[1].txt", f"{HOST}2"))
    )
    for path in (left, *others):
        path.write_text("half")
    write_text(tmp_path / "a[1].txt", "whole")
    assert (left.exists(), [path.exists() for path in others]) == (False, [True, True])


def test_a_file_is_on_disk_before_it_has_its_name_and_a_line_when_it_is_added(tmp_path, monkeypatch):
    """After a power cut there would be a name without a content."""
    path, flushed, fsync = tmp_path / "file.txt", [], os.fsync

    def recorded(number):
        flushed.append((os.pread(number, 100, 0), path.exists() and path.read_bytes()))
        fsync(number)

    monkeypatch.setattr(os, "fsync", recorded)
    write_text(path, "first\n")
    assert flushed == [(b"first\n", False)]
    write_text(path, "second\n")
    assert flushed[1:] == [(b"second\n", b"first\n")]
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(path.read_bytes()))
    append_text(path, "third\n")
    assert flushed[2:] == [b"second\nthird\n"]


def test_what_a_living_writer_has_begun_is_left_alone(tmp_path):
    begun = tmp_path / f".file.txt{TEMPORARY_MARK}{HOST}-{os.getppid()}"
    begun.write_text("half")
    write_text(tmp_path / "file.txt", "whole")
    assert begun.exists()


def test_others_may_read_what_a_guarded_writer_wrote(tmp_path):
    with whole_or_absent(tmp_path / "file") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ],
)
def test_a_full_disk_or_a_used_up_quota_is_named_whoever_says_it(tmp_path, error):
    path, number = tmp_path / "file.bin", getattr(error, "errno", errno.ENOSPC)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as raised, whole_or_absent(path):
        try:
            raise error
        except Exception as cause:
            raise ValueError("cannot write") from cause
    assert raised.value.errno == number
    assert in_a_line(raised.value).startswith(
        f"{path}: {os.strerror(number)}; make room and give the same command again"
    )
    assert raised.value.filename == str(path)
    assert not list(tmp_path.iterdir())
