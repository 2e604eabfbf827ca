"""What stands for a CUDA graph on the CPU."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pydyn.training.step import WARM_UP_STEPS


class Recorder:
    """Records as CUDA does, a call done again for a replay, into the tensors of the first one."""

    def __init__(self) -> None:
        self.n_recorded = self.n_replayed = 0

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        self.n_recorded += 1
        for _ in range(WARM_UP_STEPS):
            taken = run()

        def replay() -> None:
            self.n_replayed += 1
            taken.copy_(run())

        return taken, replay
