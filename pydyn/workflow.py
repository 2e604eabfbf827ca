"""Running Snakemake so that the same command always finishes, also after a kill -9; and what rules need of their surroundings."""

import atexit
import contextlib
import errno
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import psutil

from pydyn.errors import RunError
from pydyn.files import write_text

# What a driver leaves on a machine with an NVIDIA GPU. Asking torch would cost seconds, at each planning.
GPU_MARK = Path("/dev/nvidiactl")
SNAKEMAKE_FOLDER = Path(".snakemake")
LOCK, REPORT = "pydyn.lock", "pydyn.report"
RESULTS_LOCK = ".pydyn.lock"
PROFILE = Path("workflow/profiles/default")
JOB_NAME = re.compile("pydyn_[0-9a-f-]{36}|pydyn-[a-z_]+")
"""Of jobs that a profile of ours submits: by the plugin for SLURM, or by `sbatch` with the rule's name."""
SECONDS_TO_CANCEL = 300
SECONDS_BETWEEN_TOUCHES = 60
# A file system without locks: there is nothing to be had from asking.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_held: list[IO[str]] = []


def use_own_tools() -> None:
    """Let rules call `pydyn` of the environment that Snakemake itself runs in, also where a job starts in a bare shell.

    Not by its path in the rules: a changed command would re-run everything.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def has_gpu() -> bool:
    """Whether this machine looks as if it had an NVIDIA GPU."""
    return GPU_MARK.exists()


def hold_folder(report: Path) -> None:
    """Mark the working directory as one in which a Snakemake lives, as long as this process does; and where its report goes.

    For the Snakemake that a person started, not for those that it starts in jobs: they may outlive it.
    """
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    _hold(SNAKEMAKE_FOLDER / LOCK, fcntl.LOCK_SH)
    write_text(SNAKEMAKE_FOLDER / REPORT, str(report.resolve()))


def hold_results(results: Path) -> str | None:
    """Be the only workflow that writes to a folder of results, as long as this process lives.

    Returns None if that is so, else who holds the folder. A holder on another machine is believed to live, too, as long as it
    touches its lock: locks of some file systems do not reach other machines.
    """
    results.mkdir(parents=True, exist_ok=True)
    path = results / RESULTS_LOCK
    held = _hold(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder = path.read_text(encoding="utf-8").strip()
    if held is None:
        return holder or "a process that has just begun"
    here = f" on {platform.node()}, "
    if holder and here not in holder and time.time() - path.stat().st_mtime < 2 * SECONDS_BETWEEN_TOUCHES:
        return f"{holder}; if it was killed: this is known in {2 * SECONDS_BETWEEN_TOUCHES} seconds"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # Into the locked file itself: one put in its place would not be locked.
    held.truncate(0)
    held.write(f"process {os.getpid()}{here}since {now}\n")
    held.flush()
    atexit.register(held.truncate, 0)
    threading.Thread(target=_touch, args=(path,), daemon=True).start()
    return None


def refused(results: Path, holder: str) -> RunError:
    """What a second workflow on a folder of results is told."""
    return RunError(
        f"results = {str(results)!r}: another workflow works in this folder ({holder}); wait until it ends, end it, or give "
        "another folder (--config results=FOLDER)"
    )


def _touch(path: Path) -> None:
    while True:
        time.sleep(SECONDS_BETWEEN_TOUCHES)
        with contextlib.suppress(OSError):
            os.utime(path)


def _hold(path: Path, kind: int) -> IO[str] | None:
    """Lock a file until this process ends; None if others keep it from that."""
    # NFS gives a shared lock for a file that can be read, and an exclusive one for a file that can be written.
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"{path}: this file system has no locks; take care to start one workflow at a time", file=sys.stderr)
    _held.append(file)
    return file


def reproduce(arguments: Sequence[str]) -> int:
    """Run Snakemake in the working directory, on the default profile; returns its exit status.

    Snakemake's own locks outlive it when it is killed, and it cannot tell a dead one's from a living one's. They are not used
    here: every Snakemake of this workflow holds locks of the system's (`hold_folder`, `hold_results`), which end with its
    process.

    SIGTERM is handed on to the jobs on this machine, which save what they have, and to Snakemake, which then ends.

    Raises RunError for a Snakemake that is to work in another folder, whose report this would not see.
    """
    if elsewhere := [argument for argument in arguments if argument.split("=")[0] in ("--directory", "-d")]:
        raise RunError(
            f"{elsewhere[0]}: `pydyn reproduce` works in the folder it is started in; use Snakemake itself for another"
        )
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--nolock",
        "--rerun-incomplete",
        *_for_this_machine(arguments),
        *arguments,
    ]
    process = subprocess.Popen(command)
    # A terminal sends Ctrl-C to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _end(process.pid))
    status = process.wait()
    report = SNAKEMAKE_FOLDER / REPORT
    if status == 0 and report.exists() and Path(report.read_text(encoding="utf-8")).exists():
        print(f"Report: {report.read_text(encoding='utf-8')}", flush=True)
    return status


def _end(snakemake: int) -> None:
    """Snakemake ends when its jobs have; by itself it would wait for their natural end."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(snakemake)
        parent.terminate()
        for job in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "snakemake" not in job.cmdline():
                    job.terminate()


def _for_this_machine(arguments: Sequence[str]) -> list[str]:
    """The default profile, and jobs side by side that fit into this machine's memory; nothing where jobs go elsewhere."""
    given = {argument.split("=")[0] for argument in arguments}
    if given & {"--workflow-profile", "--profile", "--executor", "-e"} or "SNAKEMAKE_PROFILE" in os.environ:
        return []
    if not PROFILE.is_dir():
        return []
    # The command line's replaces the profile's, so what that says of GPUs stands here again.
    resources = [] if given & {"--resources", "--res"} else ["--resources", "gpu=1", f"mem_mb={megabytes_here()}"]
    return ["--workflow-profile", str(PROFILE), *resources]


def megabytes_here() -> int:
    """Memory of this machine, or what its container may use of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total // 2**20


def cancel_left_jobs(folder: Path, say: Callable[[str], None] = print) -> list[str]:
    """Cancel SLURM jobs that a Snakemake of this folder has left behind when it was killed, and wait until they are gone.

    Their names tell that a profile of ours has submitted them, and from which folder. While another Snakemake lives in this
    folder nothing is cancelled: its jobs look alike. Returns the jobs' ids; none where there is no SLURM.

    Raises RunError if they do not end, or if SLURM stops to say whether they do.
    """
    if shutil.which("squeue") is None or not _alone():
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


def _alone() -> bool:
    """Whether no other Snakemake of this workflow holds this folder; `hold_folder` comes first."""
    lock = next(file for file in _held if Path(file.name).name == LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system that cannot say
        return False
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
    return True


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
