"""A fresh random subset every epoch.

Source: Okanovic et al., Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning (RS2, ICLR 2024), in its form
without replacement: the epochs' subsets walk through a permutation of the pool, and a new one follows when it is used up.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pydyn.selection.strategy import (
    Generator,
    Indices,
    Outcome,
    Parameters,
    Resampling,
    Strategy,
    check_alpha,
    count_of,
)


@dataclass(frozen=True)
class Fresh(Parameters):
    """RS2 without replacement (Okanovic et al., ICLR 2024): new images every epoch until each was trained as often."""

    name: Literal["fresh"] = "fresh"
    alpha: int | float = 0.5
    """Images in an epoch: a count (int) or a share of the pool (float)."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    @property
    def label(self) -> str:
        """As `fresh-a0.5`."""
        return f"fresh-a{self.alpha}"

    def subset_size(self, n_pool: int) -> int:
        """Of `alpha`."""
        return count_of(self.alpha, n_pool)

    def build(self, n_pool: int, generator: Generator, epochs: int) -> "FreshSubsets":
        """Draw the first permutation."""
        return FreshSubsets(self, n_pool, generator)


class FreshSubsets(Strategy):
    """Subsets of one pool, one after the other.

    Where fewer images are left of a permutation than an epoch takes, the next one completes the subset with images that are not
    in it yet. Each permutation is used up before the next begins: how often two images were trained never differs by more than 1.
    """

    _saved = ("current", "left")
    _of_any_length = ("left",)

    def __init__(self, parameters: Fresh, n_pool: int, generator: Generator) -> None:
        super().__init__(parameters, n_pool, generator)
        self._size = parameters.subset_size(n_pool)
        self._left = generator.permutation(n_pool)
        self._current = self._take()

    def subset(self) -> Indices:
        """This epoch's."""
        return self._current

    def update(self, outcome: Outcome) -> Resampling:
        """Move on, whatever the outcome."""
        self._current = self._take()
        return Resampling()

    def _take(self) -> Indices:
        taken, self._left = self._left[: self._size], self._left[self._size :]
        lacking = self._size - len(taken)
        if lacking:
            order = self._generator.permutation(self._n_pool)
            new = order[~np.isin(order, taken)][:lacking]
            self._left = order[~np.isin(order, new)]
            taken = np.concatenate([taken, new])
        return np.sort(taken)
