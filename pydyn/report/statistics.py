"""Means, intervals and paired differences over replicates."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEVEL = 0.95

Verdict = Literal["holds", "not resolved", "no spread, no claim", "n = 1, no interval"]

# Differences of equal accuracies differ by this much in floating point, relative to their size.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over replicates and what is known of its error."""

    n: int
    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for one replicate."""
    half_width: float | None
    """Of the 95 % Student t interval of the mean; None for one replicate, and for equal ones: a few of these tell nothing of
    how far the next one lies."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval, if there is one."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)

    @property
    def verdict(self) -> Verdict:
        """For a difference: does its interval exclude zero?"""
        if self.half_width is None:
            return "n = 1, no interval" if self.n == 1 else "no spread, no claim"
        return "holds" if abs(self.mean) > self.half_width else "not resolved"


def estimate(values: Sequence[float], redrawn: float = 0.0) -> Estimate:
    """Mean, sample standard deviation and 95 % interval of at least one value.

    Args:
        values: of independent replicates; or of replicates that are other divisions of the same images.
        redrawn: of such, test images over all other images of a replicate, which it learns from: replicates share images, so
            that they vary less than replicates on other images would, and the mean's variance is std^2 (1 / n + redrawn)
            (Nadeau and Bengio 2003, corrected resampled t).
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None)
    std = float(np.std(values, ddof=1))
    if std <= ROUNDING * max(1.0, abs(mean)):
        return Estimate(n, mean, 0.0, None)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    return Estimate(n, mean, std, quantile * std * (1 / n + redrawn) ** 0.5)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float], redrawn: float = 0.0) -> Estimate | None:
    """Mean of `ours - theirs` over the seeds that both have, as `estimate`; None if they share none."""
    shared = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in shared], redrawn) if shared else None


def sampling_half_width(share: float, n_images: int) -> float:
    """Half the width of Wilson's 95 % interval of a share of `n_images` independent images, in 0..1; above 0 if all are right."""
    low, high = share_interval(share * n_images, n_images)
    return (high - low) / 2


def share_interval(count: float, n: float) -> tuple[float, float]:
    """Both ends of Wilson's 95 % interval of a share, in 0..1, of `count` of `n` independent trials: whole numbers, or what
    `independent_trials` says of others."""
    quantile = float(stats.norm.ppf((1 + LEVEL) / 2))
    share, spread = count / n, quantile**2 / n
    middle = share + spread / 2
    half_width = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return max(0.0, (middle - half_width) / (1 + spread)), min(1.0, (middle + half_width) / (1 + spread))


def independent_trials(groups: Collection[Sequence[bool]]) -> int:
    """How many independent trials tell as much of a share as these, of which those of a group go together (Kish).

    By how far groups lie apart, but at least as many as if all trials of a group were one, and not more than there are. How far
    is by the jackknife, each group against the others: one that has most of the trials makes the share that it lies near to. Few
    groups leave open how far: as many fewer trials as an interval by Student's t is wider (Korn and Graubard 1998).
    `groups`: at least one, none empty.
    """
    n = sum(map(len, groups))
    share = sum(map(sum, groups)) / n
    fewest = n**2 / sum(len(group) ** 2 for group in groups)
    within = n * share * (1 - share)
    if len(groups) == 1 or within == 0:
        return round(fewest)
    apart = [(sum(group) - share * len(group)) / (1 - len(group) / n) for group in groups]
    between = sum(distance**2 for distance in apart) * (1 - 1 / len(groups))
    certain = float(stats.norm.ppf((1 + LEVEL) / 2) / stats.t.ppf((1 + LEVEL) / 2, len(groups) - 1)) ** 2
    return round(min(n, max(fewest, certain * n * within / between if between else n)))


def shares_differ(count: int, n: int, other_count: int, other_n: int) -> float:
    """Fisher's exact test, two-sided: the probability of counts as far apart as these, or farther, if the shares are one."""
    table = [[count, n - count], [other_count, other_n - other_count]]
    return float(stats.fisher_exact(table).pvalue)
