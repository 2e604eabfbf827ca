"""Greedy pruning: filter by filter, always the one that is missed least, until each layer has one left.

Source: the thesis, chapter 2 (tables 4, 6, 7 and 9 to 11). Removal is real: the network that goes on is smaller. It is done here
and not by Torch-Pruning, whose dependency graph finds out, for any network, which parts of which layers hang together: in a plain
chain that is one layer's filters and the next one's columns, a dozen lines, on the vectors of parameters that the kernels read.
All networks that lack one filter are evaluated in one pass, which computes the first layer once (`pydyn.ops.ablate_filters`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages, ablate_filters


class Filter(NamedTuple):
    """A filter of a network as it was trained."""

    layer: int
    """From 0."""
    number: int
    """From 0, within the layer."""

    def __str__(self) -> str:
        """As the thesis counts, from 1."""
        return f"layer {self.layer + 1} F{self.number + 1}"


@dataclass(frozen=True)
class PruningStep:
    """One column of the thesis's tables. Accuracies are in 0..1, on the images that were pruned by."""

    accuracy: float
    """Of the network with all filters that remained before this step."""
    without: dict[Filter, float]
    """Accuracy without each filter that remained, also without one that is its layer's last and stays."""
    removed: tuple[Filter, ...]
    """What went: the filter that leaves the highest accuracy, or all that leave every image correct."""


@dataclass(frozen=True)
class GreedyPruning:
    """A network pruned to one filter in each layer."""

    filters: tuple[Filter, ...]
    """Of the whole network, layer by layer."""
    steps: tuple[PruningStep, ...]
    network: TinyNetwork
    """What is left."""
    accuracy: float
    """Its accuracy, in 0..1."""

    @property
    def gone_at(self) -> dict[Filter, int]:
        """The step, from 1, at which each filter went; one more than there are steps for those that stayed."""
        steps = {gone: number for number, step in enumerate(self.steps, 1) for gone in step.removed}
        return {filter: steps.get(filter, len(self.steps) + 1) for filter in self.filters}

    def table(self) -> list[list[str]]:
        """A row for each filter: its name, then for each step the accuracy without it, or `-` when it is gone."""
        return [
            [str(filter), *(f"{step.without[filter]:.6f}" if filter in step.without else "-" for step in self.steps)]
            for filter in self.filters
        ]


def prune_greedily(network: TinyNetwork, images: GreyImages) -> GreedyPruning:
    """Prune a network to one filter in each layer.

    At each step the accuracy without each remaining filter is measured. Those without which every image is classified correctly
    go together; if there are none, the one without which the accuracy is highest, of equal ones the first. A layer's last filter
    stays; if all that a layer has left would go together, the last of them stays.

    Args:
        network: trained.
        images: to measure accuracy on, on the device of the parameters; not empty.
    """
    _check_images(images)
    remaining = [list(range(count)) for count in network.architecture.filters]
    whole = tuple(Filter(layer, number) for layer, numbers in enumerate(remaining) for number in numbers)
    steps = []
    while any(len(numbers) > 1 for numbers in remaining):
        names = [Filter(layer, number) for layer, numbers in enumerate(remaining) for number in numbers]
        accuracy, *without = accuracies_without(network, images)
        step = PruningStep(accuracy, dict(zip(names, without, strict=True)), ())
        step = replace(step, removed=_choose(step.without, [len(numbers) for numbers in remaining]))
        steps.append(step)
        positions = [Filter(layer, remaining[layer].index(number)) for layer, number in step.removed]
        network = remove_filters(network, positions)
        for layer, number in step.removed:
            remaining[layer].remove(number)
    return GreedyPruning(whole, tuple(steps), network, accuracies_without(network, images)[0])


def accuracies_without(network: TinyNetwork, images: GreyImages) -> list[float]:
    """Accuracy, in 0..1, of a network and of it without each filter, layer by layer: 1 + F1 + F2 numbers."""
    _check_images(images)
    correct = ablate_filters(network.architecture, images, network.parameters)
    return [count / len(images) for count in correct.tolist()]


def _choose(without: dict[Filter, float], counts: Sequence[int]) -> tuple[Filter, ...]:
    """What goes at a step, given how many filters each layer has left."""
    left = list(counts)
    chosen = []
    for filter, accuracy in without.items():
        if accuracy == 1 and left[filter.layer] > 1:
            left[filter.layer] -= 1
            chosen.append(filter)
    if chosen:
        return tuple(chosen)
    candidates = [filter for filter in without if counts[filter.layer] > 1]
    return (max(candidates, key=lambda filter: without[filter]),)


def remove_filters(network: TinyNetwork, removed: Collection[Filter]) -> TinyNetwork:
    """A smaller network without some filters, whose outputs are those of the network with these filters' maps at 0.

    Args:
        network: of any size.
        removed: of this network; not all of a layer.

    Raises ValueError for a filter that the network does not have, and if a layer would have none left.
    """
    architecture = network.architecture
    if unknown := set(removed) - {
        Filter(layer, number) for layer, count in enumerate(architecture.filters) for number in range(count)
    }:
        raise ValueError(f"removed: {min(unknown)} is no filter of a network {architecture}")
    parts = dict(network.parts)
    filters = list(architecture.filters)
    for layer, count in enumerate(architecture.filters):
        kept = [number for number in range(count) if Filter(layer, number) not in removed]
        if not kept:
            raise ValueError(f"removed: layer {layer + 1} of a network {architecture} would have no filter left")
        for part in ("weight", "bias"):
            name = f"conv{layer + 1}.{part}"
            parts[name] = parts[name][kept]
        # What reads the maps: a weight for each of the layer's filters, or for each of their pixels.
        reader = f"conv{layer + 2}.weight" if layer + 1 < len(architecture.filters) else "dense.weight"
        parts[reader] = parts[reader].unflatten(1, (count, -1))[:, kept].flatten(1, 2)
        filters[layer] = len(kept)
    smaller = replace(architecture, filters=tuple(filters))
    return TinyNetwork(smaller, smaller.join(parts))


def _check_images(images: GreyImages) -> None:
    if len(images) == 0:
        raise ValueError("images: accuracy needs at least one")
