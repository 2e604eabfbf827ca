"""What Linux tells of the processor, and of who has it. Imports nothing slow."""

from pathlib import Path


def seconds_waited() -> float:
    """How long the calling thread has been ready to run, so far, while other work had the processors; NaN where none is told.

    Linux tells. What a Run waits for is no part of what it costs, and tells of a machine that is shared.
    """
    try:
        ran, waited, _ = map(int, Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return float("nan")
    # This thread has run: a kernel that does not count says 0 of everything.
    return waited / 1e9 if ran else float("nan")


def processor() -> str:
    """The processor's model as Linux tells it, `CPU` where it tells none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "") or "CPU"
