"""Interleaved timing of rivals, and rows of results.

Ours, the rival and a plain copy take turns in one process, so that whatever else the machine does hits all alike; the medians
are compared. A turn is as many calls as take about five milliseconds, after half as many that are not counted, in which each
brings its own data back into the caches that the one before has used. Compilation is outside. Cold turns are the opposite: a
call at a time, each after the caches were filled with something else.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pydyn.files import write_text
from pydyn.processor import processor

Action = Callable[[], object]

WARM_UP = 5
TURN_SECONDS = 5e-3
CACHE_BYTES = 256 * 2**20
"""More than any cache holds."""


@dataclass(frozen=True)
class Row:
    """One pair of one run."""

    case: str
    rival: str
    device: str
    ours_seconds: float
    rival_seconds: float
    ratio: float
    """rival / ours: above 1 is ahead."""
    limit_fraction: float | None
    """Share of the physical limit that ours reaches: time of a copy that moves the same bytes / ours."""
    bytes: int | None
    rounds: int


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def timed(action: Action, device: torch.device, calls: int) -> float:
    """Seconds a call, of several until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / calls


def medians(actions: list[Action], device: torch.device, rounds: int, cold: bool = False) -> list[float]:
    """Median seconds of each, measured in turns."""
    other = torch.empty(CACHE_BYTES if cold else 0, dtype=torch.uint8, device=device)
    calls = []
    for action in actions:
        timed(action, device, WARM_UP)
        calls.append(1 if cold else max(1, round(TURN_SECONDS / timed(action, device, WARM_UP))))
    seconds: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds):
        for action, taken, count in zip(actions, seconds, calls, strict=True):
            if cold:
                other.fill_(turn % 256)
            else:
                timed(action, device, (count + 1) // 2)
            taken.append(timed(action, device, count))
    return [statistics.median(taken) for taken in seconds]


def compare(
    case: str,
    ours: Action,
    rivals: dict[str, Action],
    device: torch.device,
    rounds: int,
    copy: Action | None = None,
    n_bytes: int | None = None,
    cold: bool = False,
) -> list[Row]:
    """Time ours against each rival, a pair at a time with the copy beside it."""
    rows = []
    for name, rival in rivals.items():
        print(f"{case}: {name} ...", file=sys.stderr, flush=True)
        actions = [ours, rival] + ([copy] if copy else [])
        ours_seconds, rival_seconds, *copy_seconds = medians(actions, device, rounds, cold)
        fraction = copy_seconds[0] / ours_seconds if copy_seconds else None
        ratio = rival_seconds / ours_seconds
        rows.append(Row(case, name, device_name(device), ours_seconds, rival_seconds, ratio, fraction, n_bytes, rounds))
    return rows


def table(rows: Iterable[Row], limit: str = "of a copy") -> str:
    """The rows as aligned text; `limit` is what their fractions are of."""
    lines = [f"{'case':26} {'rival':12} {'ours':>11} {'rival':>11} {'ratio':>7} {limit:>10}"]
    for row in rows:
        fraction = "" if row.limit_fraction is None else f"{row.limit_fraction:.0%}"
        lines.append(
            f"{row.case:26} {row.rival:12} {row.ours_seconds * 1e6:8.1f} us {row.rival_seconds * 1e6:8.1f} us "
            f"{row.ratio:7.2f} {fraction:>10}"
        )
    return "\n".join(lines)


def write_json(rows: Iterable[Row], path: Path) -> None:
    write_text(path, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def plot(rows: list[Row], path: Path) -> None:
    """Bars of how far ahead ours is, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.32 * len(rows) + 1.6), layout="constrained")
    labels = [f"{row.case} / {row.rival}" for row in rows]
    axes.barh(labels, [row.ratio for row in rows], color=["#2a6f97" if row.ratio >= 1 else "#c1121f" for row in rows])
    for position, row in enumerate(rows):
        axes.annotate(f" {row.ratio:.1f}", (row.ratio, position), va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(right=2 * max(row.ratio for row in rows))
    axes.invert_yaxis()
    axes.set_xlabel("seconds of the rival / ours (right of the line: ours is faster)")
    axes.set_title(rows[0].device, fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
