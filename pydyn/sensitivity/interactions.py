"""Filters that work against the others, and filters whose effect depends on others: found and listed.

Source: the thesis, which points such filters out in its tables 4 and 7 and in its conclusions (interaction between filters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages
from pydyn.sensitivity.pruning import Filter, GreedyPruning, accuracies_without, remove_filters


@dataclass(frozen=True)
class Contradiction:
    """A filter that worked against the others: the accuracy rises when it is removed."""

    step: int
    """From 1."""
    filter: Filter
    accuracy: float
    """With it, in 0..1."""
    without: float


def contradictions(pruning: GreedyPruning) -> list[Contradiction]:
    """All contradictions on the way, strongest first."""
    found = [
        Contradiction(number, filter, step.accuracy, without)
        for number, step in enumerate(pruning.steps, 1)
        for filter, without in step.without.items()
        if without > step.accuracy
    ]
    return sorted(found, key=lambda one: one.accuracy - one.without)


@dataclass(frozen=True)
class Interaction:
    """A filter whose effect is another one when others are gone. An effect is the accuracy lost without the filter."""

    step: int
    """From 1: the step at which the others went."""
    filter: Filter
    removed: tuple[Filter, ...]
    before: float
    """Effect while the others were there, in -1..1."""
    after: float

    @property
    def change(self) -> float:
        """Above 0: the filter matters more without the others, which did its work too; below: it worked with them."""
        return self.after - self.before


def interactions(pruning: GreedyPruning, threshold: float) -> list[Interaction]:
    """The interactions on the way that change an effect by at least `threshold` (0..1), strongest first.

    The thesis marks them in its tables 4 and 7, by eye.
    """
    found = []
    for number, (step, following) in enumerate(zip(pruning.steps, pruning.steps[1:], strict=False), 1):
        for filter, without in following.without.items():
            before = step.accuracy - step.without[filter]
            one = Interaction(number, filter, step.removed, before, following.accuracy - without)
            # Without rounding, half of the changes of just the threshold would fall below it.
            if round(abs(one.change), 9) >= threshold:
                found.append(one)
    return sorted(found, key=lambda one: -abs(one.change))


def pair_interactions(network: TinyNetwork, images: GreyImages) -> tuple[tuple[Filter, ...], NDArray[np.float64]]:
    """How much each filter's effect changes when another one goes, for all pairs of a whole network.

    Returns:
        The filters, layer by layer, and (F, F) float64: in row a, column b, the accuracy lost without a when b is gone less the
        accuracy lost without a when it is not. Symmetric, in -2..2; NaN on the diagonal and where b is its layer's last filter.
    """
    counts = network.architecture.filters
    filters = tuple(Filter(layer, number) for layer, count in enumerate(counts) for number in range(count))
    accuracy, *without = accuracies_without(network, images)
    effect = accuracy - np.array(without)
    changes = np.full((len(filters), len(filters)), np.nan)
    for column, gone in enumerate(filters):
        if counts[gone.layer] > 1:
            rest, *without_both = accuracies_without(remove_filters(network, [gone]), images)
            others = np.arange(len(filters)) != column
            changes[others, column] = rest - np.array(without_both) - effect[others]
    return filters, changes
