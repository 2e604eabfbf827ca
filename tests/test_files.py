"""Files are whole or absent."""

import errno
import os
import re
import subprocess
import sys

import pytest

from pydyn.files import HOST, TEMPORARY_MARK, whole_or_absent, write_text


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
    ],
)
def test_a_full_disk_is_named_whoever_says_it(tmp_path, error):
    path = tmp_path / "file.bin"
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))) as raised, whole_or_absent(path):
        try:
            raise error
        except Exception as cause:
            raise ValueError("cannot write") from cause
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(path)
    assert not list(tmp_path.iterdir())
