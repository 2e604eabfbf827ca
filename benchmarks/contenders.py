"""Loops in processes of their own, as a user would run them, which train an epoch when told to."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks import loops
from benchmarks.loops import SHARING, Epoch, Setting
from pydyn.device import keep_memory, open_device

KEEPING = ", keeping memory"
FEW_WORKERS = "DataLoader, 4 workers"
FLOAT32 = "DataLoader, no TF32"

LOOPS: dict[str, Callable[[Setting], Epoch]] = {
    "ours": loops.ours,
    "DataLoader": loops.textbook,
    FEW_WORKERS: partial(loops.textbook, workers=4),
    FLOAT32: partial(loops.textbook, tf32=False),
    "airbench": loops.airbench,
    "selection + gather": loops.choosing,
    "FLOP limit": loops.limit,
    "ours on streams": loops.on_streams,
}


def serve(connection: Connection, name: str, setting: Setting) -> None:
    """Of a loop's process: an epoch for each request, until there is none."""
    threads = setting.threads or torch.get_num_threads()
    if name in ("ours", "ours on streams", "selection + gather"):
        open_device("auto", threads)
    else:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
    if name.endswith(KEEPING):
        keep_memory()
    epoch = LOOPS[name.removesuffix(KEEPING)](setting)
    connection.send(None)
    while connection.recv():
        connection.send(epoch())


class Contender:
    """A loop in its process."""

    def __init__(self, name: str, setting: Setting) -> None:
        context: Any = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Not a daemon: a DataLoader has children of its own.
        self._process = context.Process(target=serve, args=(theirs, name, setting))
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Until it is ready for its first epoch."""
        self._connection.recv()

    def epoch(self) -> float:
        self._connection.send(True)
        seconds: float = self._connection.recv()
        return seconds

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it may have died
            self._connection.send(False)
        self._process.join(10)
        self._process.kill()


class Sharing:
    """Several of our loops, each in its process, on one card."""

    def __init__(self, setting: Setting) -> None:
        self._contenders = [Contender("ours", setting) for _ in range(SHARING)]

    def wait(self) -> None:
        for contender in self._contenders:
            contender.wait()

    def epoch(self) -> float:
        """All of them train an epoch at once: the seconds of one."""
        start = time.perf_counter()
        with ThreadPoolExecutor(SHARING) as pool:
            list(pool.map(Contender.epoch, self._contenders))
        return (time.perf_counter() - start) / SHARING

    def end(self) -> None:
        for contender in self._contenders:
            contender.end()
