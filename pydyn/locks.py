"""Locks that end with their process: of the folder that a workflow is started in, and of the results that it writes."""

import atexit
import contextlib
import errno
import fcntl
import os
import platform
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydyn.errors import RunError

SNAKEMAKE_FOLDER = Path(".snakemake")
LOCK = "pydyn.lock"
RESULTS_LOCK = ".pydyn.lock"
SECONDS_BETWEEN_TOUCHES = 60
# A file system without locks: there is nothing to be had from asking.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_held: list[IO[str]] = []


def hold_folder() -> None:
    """Mark the working directory as one in which a Snakemake lives, as long as this process does.

    For the Snakemake that a person started, not for those that it starts in jobs: they may outlive it.
    """
    SNAKEMAKE_FOLDER.mkdir(exist_ok=True)
    _hold(SNAKEMAKE_FOLDER / LOCK, fcntl.LOCK_SH)


def is_alone() -> bool:
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
