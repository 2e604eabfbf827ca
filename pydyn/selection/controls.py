"""Strategies that do not select: what Dynamic Training is compared with.

Sources: papers a and b of the study `dynamic`, section 5, table 4: training without Dynamic Training.
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


class ConstantSubset(Strategy):
    """The same images every epoch."""

    _saved = ("indices",)

    def __init__(self, parameters: Parameters, n_pool: int, generator: Generator, indices: Indices) -> None:
        super().__init__(parameters, n_pool, generator)
        self._indices = indices

    def subset(self) -> Indices:
        """The same at every call."""
        return self._indices

    def update(self, outcome: Outcome) -> Resampling:
        """Nothing changes."""
        return Resampling()


@dataclass(frozen=True)
class Full(Parameters):
    """Train on the whole pool: typical training (papers a and b, section 5, table 4, first row; paper a, figure 8)."""

    name: Literal["full"] = "full"

    @property
    def label(self) -> str:
        """Always `full`."""
        return "full"

    def subset_size(self, n_pool: int) -> int:
        """The pool."""
        return n_pool

    def build(self, n_pool: int, generator: Generator, epochs: int) -> ConstantSubset:
        """Draws nothing."""
        return ConstantSubset(self, n_pool, generator, np.arange(n_pool, dtype=np.int64))


@dataclass(frozen=True)
class Fixed(Parameters):
    """Train on one random subset that never changes: Dynamic Training with beta = 0.

    Source: papers a and b, section 5, table 4, second row; paper a, figure 9.
    """

    name: Literal["fixed"] = "fixed"
    alpha: int | float = 0.5
    """Images in the subset: a count (int) or a share of the pool (float)."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    @property
    def label(self) -> str:
        """As `fixed-a25000`."""
        return f"fixed-a{self.alpha}"

    def subset_size(self, n_pool: int) -> int:
        """Of `alpha`."""
        return count_of(self.alpha, n_pool)

    def build(self, n_pool: int, generator: Generator, epochs: int) -> ConstantSubset:
        """Draw the subset, uniformly without replacement."""
        indices = np.sort(generator.permutation(n_pool)[: self.subset_size(n_pool)])
        return ConstantSubset(self, n_pool, generator, indices)
