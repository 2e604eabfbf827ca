"""Jobs that a killed workflow has left with SLURM are cancelled, and no others."""

import fcntl
import os

import pytest

from pydyn import left_jobs, locks
from pydyn.errors import RunError

UUID = "45f1005f-fb99-41e9-b1f1-6743b8b9d3c5"


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
    monkeypatch.setattr(locks, "_held", held := [])
    locks.hold_folder()
    yield queue
    for file in held:
        file.close()


def test_jobs_that_a_killed_workflow_has_left_here_are_cancelled_and_no_others(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    others = [
        f"3 pydyn_{UUID} /elsewhere",
        f"4 somebody {tmp_path}",
        f"5 pydyn.sh {tmp_path}",  # a person's own script
        f"9 pydyn-report {tmp_path}",  # the job that this runs in
    ]
    slurm.write_text("\n".join([f"1 pydyn_{UUID} {tmp_path}", f"2 pydyn-train_dynamic {tmp_path}", *others]) + "\n")
    assert left_jobs.cancel_left_jobs(tmp_path) == ["1", "2"]
    assert slurm.read_text().splitlines() == others


def test_nothing_is_cancelled_while_another_workflow_lives_here(slurm, tmp_path):
    slurm.write_text(f"1 pydyn_{UUID} {tmp_path}\n")
    with (tmp_path / ".snakemake" / locks.LOCK).open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert left_jobs.cancel_left_jobs(tmp_path) == []
    assert slurm.read_text()


def test_a_slurm_that_does_not_answer_is_no_empty_queue_once_jobs_were_cancelled(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(left_jobs, "SECONDS_TO_CANCEL", 1)
    slurm.write_text(f"1 pydyn_{UUID} {tmp_path}\n")
    (tmp_path / "tools" / "scancel").write_text(f"#!/bin/sh\nrm {slurm}\n")  # and squeue fails from then on
    with pytest.raises(RunError, match="squeue fails"):
        left_jobs.cancel_left_jobs(tmp_path)


def test_commands_of_slurm_without_a_slurm_disturb_nothing(slurm, tmp_path):
    slurm.unlink(missing_ok=True)
    assert left_jobs.cancel_left_jobs(tmp_path) == []
