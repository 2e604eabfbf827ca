"""Locks of a folder of results, and jobs that a killed workflow has left with SLURM."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pydyn import workflow
from pydyn.errors import RunError

UUID = "45f1005f-fb99-41e9-b1f1-6743b8b9d3c5"


@pytest.fixture(autouse=True)
def forget_locks(monkeypatch):
    """So that locks end with a test."""
    held = []
    monkeypatch.setattr(workflow, "_held", held)
    monkeypatch.setattr(workflow.atexit, "register", lambda *arguments: None)
    yield
    for file in held:
        file.close()


def in_another_process(results):
    code = f"from pathlib import Path; from pydyn.workflow import hold_results; print(hold_results(Path({str(results)!r})))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_one_workflow_at_a_time_holds_a_folder_of_results(tmp_path):
    assert workflow.hold_results(tmp_path) is None
    assert in_another_process(tmp_path).startswith(f"process {os.getpid()} on ")
    workflow._held.pop().close()
    assert in_another_process(tmp_path) == "None"
    assert (tmp_path / workflow.RESULTS_LOCK).read_text() == ""  # it ended by itself


def test_a_holder_on_another_machine_counts_as_long_as_it_touches_its_lock(tmp_path):
    lock = tmp_path / workflow.RESULTS_LOCK
    lock.write_text("process 7 on elsewhere, since 2026-01-01T00:00:00+00:00\n")
    assert workflow.hold_results(tmp_path).startswith("process 7 on elsewhere")
    workflow._held.pop().close()
    long_ago = time.time() - 10 * workflow.SECONDS_BETWEEN_TOUCHES
    os.utime(lock, (long_ago, long_ago))
    assert workflow.hold_results(tmp_path) is None


def test_locks_can_be_had_on_nfs_too(tmp_path):
    """There a shared lock needs a file that can be read, an exclusive one a file that can be written."""
    workflow._hold(tmp_path / "lock", fcntl.LOCK_SH)
    mode = fcntl.fcntl(workflow._held[-1], fcntl.F_GETFL) & os.O_ACCMODE
    assert mode == os.O_RDWR


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A squeue that lists what is in a file, and a scancel that takes lines out of it."""
    tools, queue = tmp_path / "tools", tmp_path / "queue"
    tools.mkdir()
    (tools / "squeue").write_text(f"#!/bin/sh\n[ -e {queue} ] && cat {queue}\n")
    (tools / "scancel").write_text(f'#!/bin/sh\nfor job in "$@"; do sed -i "/^$job /d" {queue}; done\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    workflow.hold_folder(Path("results/report/index.html"))
    return queue


def test_jobs_that_a_killed_workflow_has_left_here_are_cancelled_and_no_others(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    others = [
        f"3 pydyn_{UUID} /elsewhere",
        f"4 somebody {tmp_path}",
        f"5 pydyn.sh {tmp_path}",  # a person's own script
        f"9 pydyn-report {tmp_path}",  # the job that this runs in
    ]
    slurm.write_text("\n".join([f"1 pydyn_{UUID} {tmp_path}", f"2 pydyn-train_dynamic {tmp_path}", *others]) + "\n")
    assert workflow.cancel_left_jobs(tmp_path) == ["1", "2"]
    assert slurm.read_text().splitlines() == others


def test_nothing_is_cancelled_while_another_workflow_lives_here(slurm, tmp_path):
    slurm.write_text(f"1 pydyn_{UUID} {tmp_path}\n")
    with (tmp_path / ".snakemake" / workflow.LOCK).open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert workflow.cancel_left_jobs(tmp_path) == []
    assert slurm.read_text()


def test_a_slurm_that_does_not_answer_is_no_empty_queue_once_jobs_were_cancelled(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "SECONDS_TO_CANCEL", 1)
    slurm.write_text(f"1 pydyn_{UUID} {tmp_path}\n")
    (tmp_path / "tools" / "scancel").write_text(f"#!/bin/sh\nrm {slurm}\n")  # and squeue fails from then on
    with pytest.raises(RunError, match="squeue fails"):
        workflow.cancel_left_jobs(tmp_path)


def test_commands_of_slurm_without_a_slurm_disturb_nothing(slurm, tmp_path):
    slurm.unlink(missing_ok=True)
    assert workflow.cancel_left_jobs(tmp_path) == []
