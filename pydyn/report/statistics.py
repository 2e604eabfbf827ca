"""Means, intervals and paired differences over replicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEVEL = 0.95

Verdict = Literal["holds", "not resolved", "n = 1, no interval"]


@dataclass(frozen=True)
class Estimate:
    """A mean over replicates and what is known of its error."""

    n: int
    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for one replicate."""
    half_width: float | None
    """Of the 95 % Student t interval of the mean; None for one replicate."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)

    @property
    def verdict(self) -> Verdict:
        """For a difference: does its interval exclude zero?"""
        if self.half_width is None:
            return "n = 1, no interval"
        return "holds" if abs(self.mean) > self.half_width else "not resolved"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, sample standard deviation and 95 % interval of at least one value."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None)
    std = float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    return Estimate(n, mean, std, quantile * std / n**0.5)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Mean of `ours - theirs` over the seeds that both have; None if they share none."""
    shared = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in shared]) if shared else None
