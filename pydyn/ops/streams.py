"""Work on a GPU that runs beside other work: a small network's kernels leave a GPU idle in part.

On the default stream nothing does: it pays only where kernels do not wait to be launched, as in a graph, which is captured on a
stream of its own. Threads share these streams: not two may capture at a time.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

# cnn_a on an H100, before convolutions of our own: with 1, 2, 4, 8 streams 310, 335, 338, 335 thousand images a second.
_N_STREAMS = 4
_TURNS = itertools.count()


@contextlib.contextmanager
def backward_beside(device: torch.device) -> Iterator[None]:
    """Operations within are recorded so that their backward passes may run beside those of others: autograd keeps each on the
    stream of its forward pass, and orders what depends on one another."""
    if not _is_worth_it(device):
        yield
        return
    own, other = torch.cuda.current_stream(device), _stream(device, next(_TURNS) % _N_STREAMS)
    other.wait_stream(own)
    try:
        with torch.cuda.stream(other):
            yield
    finally:  # else a capture would end with a complaint about this stream, not about what went wrong
        own.wait_stream(other)


def run_beside(device: torch.device, actions: Sequence[Callable[[], object]]) -> None:
    """Launch what may run beside each other; what is launched afterwards waits for all of it."""
    if not _is_worth_it(device):
        for action in actions:
            action()
        return
    own = torch.cuda.current_stream(device)
    streams = [_stream(device, turn % _N_STREAMS) for turn in range(len(actions))]
    for stream in streams:
        stream.wait_stream(own)
    for stream, action in zip(streams, actions, strict=True):
        with torch.cuda.stream(stream):
            action()
    for stream in streams:
        own.wait_stream(stream)


@contextlib.contextmanager
def running_beside(device: torch.device, action: Callable[[], Tensor]) -> Iterator[Tensor]:
    """Launch what may run beside all that is launched within; what is launched afterwards waits for both. Gives its result, which
    is there afterwards. What it reads must stay until then."""
    if not _is_worth_it(device):
        yield action()
        return
    own, other = torch.cuda.current_stream(device), _stream(device, next(_TURNS) % _N_STREAMS)
    other.wait_stream(own)
    try:
        with torch.cuda.stream(other):
            result = action()
        result.record_stream(own)  # where it is read
        yield result
    finally:
        own.wait_stream(other)


def for_captures() -> torch.cuda.Stream:
    """The stream to capture graphs on, of the current device: one for all, since torch has few and deals them out in turn."""
    return _stream(torch.device("cuda", torch.cuda.current_device()), _N_STREAMS)


def _is_worth_it(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.current_stream(device) != torch.cuda.default_stream(device)


@lru_cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
