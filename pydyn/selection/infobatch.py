"""Easy images are left out at random, and those that stay count for more.

Source: Qin et al., InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning (ICLR 2024), sections 2.2 and 2.3, and
the authors' code (github.com/NUS-HPC-AI-Lab/InfoBatch).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pydyn.selection.strategy import (
    Generator,
    Indices,
    Outcome,
    Parameters,
    Resampling,
    Scores,
    Strategy,
    check_share,
    needed,
)


@dataclass(frozen=True)
class InfoBatch(Parameters):
    """InfoBatch as it is declared (Qin et al., ICLR 2024, sections 2.2 and 2.3).

    `ratio` is not the share of images saved: only easy ones can be left out.
    """

    name: Literal["infobatch"] = "infobatch"
    ratio: float = 0.5
    """r, in [0, 1): the chance of an image to be left out whose last loss is below the mean of all last losses."""
    anneal: float = 0.125
    """1 - delta of the paper, in [0, 1]: the share of epochs, the last ones, that train on the full pool. Rounded up, as in the
    authors' code, which leaves images out up to epoch delta * epochs: of 30 epochs the last 4, of 4 the last one."""

    def __post_init__(self) -> None:
        check_share("anneal", self.anneal)
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio = {self.ratio} must be at least 0 and below 1")

    @property
    def label(self) -> str:
        """As `infobatch-r0.5`, with an unusual annealing after it."""
        return f"infobatch-r{self.ratio:g}" + (f"-anneal{self.anneal:g}" if self.anneal != 0.125 else "")

    def subset_size(self, n_pool: int) -> int:
        """The pool: what is really trained is for the losses to say."""
        return n_pool

    def build(self, n_pool: int, generator: Generator, epochs: int) -> "InfoBatchPruning":
        """Draws nothing yet: the first epoch trains on the full pool, as no loss is known."""
        return InfoBatchPruning(self, n_pool, generator, epochs)


class InfoBatchPruning(Strategy):
    """InfoBatch over one pool.

    An image scores its loss when it was last trained. Before an epoch, each whose score is below the mean is left out with
    probability r; those of them that stay weigh 1 / (1 - r) in the loss, so that the expected gradient is the full pool's. In the
    last epochs all images are trained, with weight 1.
    """

    _saved = ("losses", "current", "weights", "epoch")
    _of_any_length = ("current", "weights")

    def __init__(self, parameters: InfoBatch, n_pool: int, generator: Generator, epochs: int) -> None:
        super().__init__(parameters, n_pool, generator)
        self._parameters = parameters
        self._epochs = epochs
        # Of the last epoch that may leave images out. Without rounding, 0.07 of 100 would be more than 7.
        self._last_pruned = epochs - math.ceil(round(parameters.anneal * epochs, 9))
        self._epoch = 1
        self._losses = np.full(n_pool, np.inf, dtype=np.float32)
        self._current: Indices = np.arange(n_pool, dtype=np.int64)
        self._weights = np.ones(n_pool, dtype=np.float32)

    def subset(self) -> Indices:
        """This epoch's."""
        return self._current

    def weights(self) -> Scores:
        """1 / (1 - r) for images that could have been left out, 1 for the others."""
        return self._weights

    def update(self, outcome: Outcome) -> Resampling:
        """Take in the losses, and leave out some of the images below their mean."""
        self._losses[self._current] = needed(outcome.losses, "losses", self._current)
        self._epoch += 1
        easy = self._losses < self._losses.mean(dtype=np.float64)
        if self._epoch > self._last_pruned:
            easy[:] = False
        kept = ~easy | (self._generator.random(self._n_pool) >= self._parameters.ratio)
        self._current = np.flatnonzero(kept).astype(np.int64)
        self._weights = np.where(easy[kept], 1 / (1 - self._parameters.ratio), 1).astype(np.float32)
        return Resampling()

    def _check(self, state: dict[str, Any]) -> None:
        super()._check(state)
        if len(state["weights"]) != len(state["current"]):
            raise self._refusal(f"weights has length {len(state['weights'])}, allowed is {len(state['current'])}")

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "epochs": int(self._epochs)}
