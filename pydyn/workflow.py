"""Running Snakemake so that the same command always finishes, also after a kill -9; and what rules need of their surroundings."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pydyn.errors import RunError
from pydyn.files import write_text

# What a driver leaves on a machine with an NVIDIA GPU. Asking torch would cost seconds, at each planning.
GPU_MARK = Path("/dev/nvidiactl")
SNAKEMAKE_FOLDER = Path(".snakemake")
LOCK, REPORT = "pydyn.lock", "pydyn.report"
PROFILE = Path("workflow/profiles/default")

_held: IO[str] | None = None


def use_own_tools() -> None:
    """Let rules call `pydyn` of the environment that Snakemake itself runs in, also where a job starts in a bare shell.

    Not by its path in the rules: a changed command would re-run everything.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def has_gpu() -> bool:
    """Whether this machine looks as if it had an NVIDIA GPU."""
    return GPU_MARK.exists()


def hold_folder(report: Path) -> None:
    """Mark the working directory as one in which a Snakemake lives, as long as this process does; and where its report goes."""
    global _held
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    _held = (SNAKEMAKE_FOLDER / LOCK).open("a")
    fcntl.flock(_held, fcntl.LOCK_SH)
    write_text(SNAKEMAKE_FOLDER / REPORT, str(report.resolve()))


def reproduce(arguments: Sequence[str]) -> int:
    """Run Snakemake in the working directory, on the default profile; returns its exit status.

    A killed Snakemake leaves a lock that it cannot tell from a living one's. Every Snakemake of this workflow holds a lock of the
    system's, too (`hold_folder`), which ends with its process: where nobody holds one, Snakemake's locks are dead. Raises
    RunError for a Snakemake that is to work in another folder, whose locks and report this would not see.
    """
    if elsewhere := [argument for argument in arguments if argument.split("=")[0] in ("--directory", "-d")]:
        raise RunError(
            f"{elsewhere[0]}: `pydyn reproduce` works in the folder it is started in; use Snakemake itself for another"
        )
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    with (SNAKEMAKE_FOLDER / LOCK).open("a") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for dead in (SNAKEMAKE_FOLDER / "locks").glob("*.lock"):
            dead.unlink()
    profile = [] if "--workflow-profile" in arguments or not PROFILE.is_dir() else ["--workflow-profile", str(PROFILE)]
    command = [sys.executable, "-m", "snakemake", "--rerun-incomplete", *profile, *arguments]
    process = subprocess.Popen(command)
    # A terminal sends Ctrl-C to both; what a scheduler sends here is handed on. Snakemake ends its jobs, then itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    status = process.wait()
    report = SNAKEMAKE_FOLDER / REPORT
    if status == 0 and report.exists() and Path(report.read_text(encoding="utf-8")).exists():
        print(f"Report: {report.read_text(encoding='utf-8')}", flush=True)
    return status
