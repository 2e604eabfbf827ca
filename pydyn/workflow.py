"""Running Snakemake so that the same command always finishes, also after a kill -9; and what rules need of their surroundings."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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


def reproduce(arguments: Sequence[str]) -> int:
    """Run Snakemake in the working directory; returns its exit status.

    A killed Snakemake leaves a lock of its own and jobs that go on. Snakemake cannot tell a dead lock from a living one; this
    can: it holds a lock that every process it starts inherits and that the system frees when the last of them has ended.
    """
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    with (SNAKEMAKE_FOLDER / "pydyn.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                "pydyn: a workflow, or a job that a killed one left, still runs in this folder; waiting for it",
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        if any((SNAKEMAKE_FOLDER / "locks").glob("*")):
            _snakemake(["--unlock", *arguments], lock.fileno(), quiet=True)
        return _snakemake(["--rerun-incomplete", *arguments], lock.fileno())


def _snakemake(arguments: Sequence[str], lock: int, *, quiet: bool = False) -> int:
    command = [sys.executable, "-m", "snakemake", *arguments]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, pass_fds=[lock], stdout=output, stderr=output, check=False).returncode
