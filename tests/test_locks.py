"""Locks of a folder of results."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from pydyn import locks


@pytest.fixture(autouse=True)
def forget_locks(monkeypatch):
    """So that locks end with a test."""
    held = []
    monkeypatch.setattr(locks, "_held", held)
    monkeypatch.setattr(locks.atexit, "register", lambda *arguments: None)
    yield
    for file in held:
        file.close()


def in_another_process(results):
    code = (
        f"from pathlib import Path; from pydyn.locks import hold_results; print(hold_results(Path({str(results)!r})))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_one_workflow_at_a_time_holds_a_folder_of_results(tmp_path):
    assert locks.hold_results(tmp_path) is None
    assert in_another_process(tmp_path).startswith(f"process {os.getpid()} on ")
    locks._held.pop().close()
    assert in_another_process(tmp_path) == "None"
    assert (tmp_path / locks.RESULTS_LOCK).read_text() == ""  # it ended by itself


def test_a_holder_on_another_machine_counts_as_long_as_it_touches_its_lock(tmp_path):
    lock = tmp_path / locks.RESULTS_LOCK
    lock.write_text("process 7 on elsewhere, since 2026-01-01T00:00:00+00:00\n")
    assert locks.hold_results(tmp_path).startswith("process 7 on elsewhere")
    locks._held.pop().close()
    long_ago = time.time() - 10 * locks.SECONDS_BETWEEN_TOUCHES
    os.utime(lock, (long_ago, long_ago))
    assert locks.hold_results(tmp_path) is None


def test_locks_can_be_had_on_nfs_too(tmp_path):
    """There a shared lock needs a file that can be read, an exclusive one a file that can be written."""
    locks._hold(tmp_path / "lock", fcntl.LOCK_SH)
    mode = fcntl.fcntl(locks._held[-1], fcntl.F_GETFL) & os.O_ACCMODE
    assert mode == os.O_RDWR


def test_a_holder_touches_its_lock_as_long_as_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_TOUCHES", 0.01)
    assert locks.hold_results(tmp_path) is None
    lock, deadline = tmp_path / locks.RESULTS_LOCK, time.monotonic() + 300
    os.utime(lock, (0, 0))
    while lock.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lock.stat().st_mtime > 0


def test_who_asks_whether_it_is_alone_lets_others_in_afterwards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locks.hold_folder()
    assert locks.is_alone()
    with (locks.SNAKEMAKE_FOLDER / locks.LOCK).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not locks.is_alone()
    assert locks.is_alone()
