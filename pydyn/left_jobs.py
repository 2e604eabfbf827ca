"""Jobs that a killed workflow has left with SLURM."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pydyn.errors import RunError
from pydyn.locks import is_alone

JOB_NAME = re.compile("pydyn_[0-9a-f-]{36}|pydyn-[a-z_]+")
"""Of jobs that a profile of ours submits: by the plugin for SLURM, or by `sbatch` with the rule's name."""
SECONDS_TO_CANCEL = 300


def cancel_left_jobs(folder: Path, say: Callable[[str], None] = print) -> list[str]:
    """Cancel SLURM jobs that a Snakemake of this folder has left behind when it was killed, and wait until they are gone.

    Their names tell that a profile of ours has submitted them, and from which folder. While another Snakemake lives in this
    folder nothing is cancelled: its jobs look alike. Returns the jobs' ids; none where there is no SLURM.

    Raises RunError if they do not end, or if SLURM stops to say whether they do.
    """
    if shutil.which("squeue") is None or not is_alone():
        return []
    left = _jobs_of(folder)
    if not left:
        # Nor if SLURM does not say: there may be none behind its commands, and jobs left behind keep their Runs for themselves.
        return []
    say(f"Cancelling {len(left)} SLURM jobs that a killed workflow has left: {', '.join(left)}")
    subprocess.run(["scancel", *left], check=False)
    deadline = time.monotonic() + SECONDS_TO_CANCEL
    while (still := _jobs_of(folder)) != []:
        if time.monotonic() > deadline:
            what = "squeue fails" if still is None else f"SLURM jobs {', '.join(still)} do not end"
            raise RunError(f"{what} {SECONDS_TO_CANCEL} s after jobs that a killed workflow has left were cancelled")
        time.sleep(1)
    return left


def _jobs_of(folder: Path) -> list[str] | None:
    """Ids of this user's jobs, waiting or running, that profiles of ours submitted from a folder; None if SLURM does not say."""
    # %Z last: a folder's name may hold anything.
    listing = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%A %j %Z"]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    jobs = [line.strip().split(" ", 2) for line in done.stdout.splitlines() if line.strip()]
    return [
        job
        for job, name, where in jobs
        if JOB_NAME.fullmatch(name) and Path(where) == folder and job != os.environ.get("SLURM_JOB_ID")
    ]
