"""Ending in time: a scheduler says SIGTERM some seconds before it kills."""

import contextlib
import signal
from collections.abc import Callable, Iterator

Stop = Callable[[], bool]


def never() -> bool:
    """Nobody asks."""
    return False


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Within this context SIGTERM ends nothing, but is remembered: what is given says whether it came. Main thread only."""
    came = False

    def remember(number: int, frame: object) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)
