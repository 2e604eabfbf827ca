"""Progress of a long loop: a bar on a terminal, now and then a plain line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 5.0


def with_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Give the items and report on standard error how many of `total` are done; a quick loop leaves no line in a log.

    `what` begins each line.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, leave=False)
        return
    started = time.monotonic()
    due = started + SECONDS_BETWEEN_LINES
    for done, item in enumerate(items):
        if (now := time.monotonic()) > due:
            print(f"{what}: {done:,} of {total:,} ({done / (now - started):,.0f}/s)", file=sys.stderr, flush=True)
            due = now + SECONDS_BETWEEN_LINES
        yield item
