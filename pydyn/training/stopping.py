"""Ending in time: a scheduler says SIGTERM some seconds before it kills, or says when time will be up."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

Stop = Callable[[], bool]

SECONDS_TO_SAVE = 120
"""Before a job's time is up; less for a job of few minutes."""


def never() -> bool:
    """Nobody asks."""
    return False


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Within this context SIGTERM ends nothing, but is remembered: what is given says whether it came. Main thread only.

    In a SLURM job it also says so when the job's time is nearly up. Clusters that keep track of processes by cgroups send a
    signal to the first process of a job only, which is not this one.
    """
    came = False

    def remember(number: int, frame: object) -> None:
        nonlocal came
        came = True

    left = slurm_seconds_left()
    until = float("inf") if left is None else time.monotonic() + left - min(SECONDS_TO_SAVE, left / 5)
    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: came or time.monotonic() > until
    finally:
        signal.signal(signal.SIGTERM, before)


def slurm_seconds_left() -> int | None:
    """Until this SLURM job's time is up; None outside of one, or where there is no limit or nobody to ask."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        asked = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30)
        return parse_time_left(done.stdout.strip())
    except (OSError, subprocess.SubprocessError):
        return None


def parse_time_left(text: str) -> int | None:
    """Seconds of SLURM's `[[days-]hours:]minutes:seconds`; None for its other words, as `UNLIMITED`."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return 86400 * int(days or 0) + seconds
