"""Running Snakemake so that the same command always finishes, also after a kill -9; and what rules need of their surroundings."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# What a driver leaves on a machine with an NVIDIA GPU. Asking torch would cost seconds, at each planning.
GPU_MARK = Path("/dev/nvidiactl")
SNAKEMAKE_FOLDER = Path(".snakemake")


def use_own_tools() -> None:
    """Let rules call `pydyn` of the environment that Snakemake itself runs in, also where a job starts in a bare shell.

    Not by its path in the rules: a changed command would re-run everything.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def has_gpu() -> bool:
    """Whether this machine looks as if it had an NVIDIA GPU."""
    return GPU_MARK.exists()


def reproduce(arguments: Sequence[str]) -> NoReturn:
    """Become Snakemake in the working directory, so that signals and exit status are its own.

    A killed Snakemake leaves a lock of its own and jobs that go on. Snakemake cannot tell a dead lock from a living one; this
    can: it holds a lock that every process it starts inherits and that the system frees when the last of them has ended.
    """
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    lock = os.open(SNAKEMAKE_FOLDER / "pydyn.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(
            "pydyn: a workflow, or a job that a killed one left, still runs in this folder; waiting for it", flush=True
        )
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    snakemake = [sys.executable, "-m", "snakemake"]
    if any((SNAKEMAKE_FOLDER / "locks").glob("*")):
        subprocess.run(
            [*snakemake, "--unlock", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
    os.execv(sys.executable, [*snakemake, "--rerun-incomplete", *arguments])
