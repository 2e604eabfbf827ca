"""Which images a network gets wrong, and whether that depends on the size of what they show.

Source: the thesis, appendix (table 12, figure 31): the smallest figures of data set 1.2 cannot be told apart, which is why 1.3
begins at a size of 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages, population_evaluate


@dataclass(frozen=True)
class Failure:
    """A misclassified image."""

    image: int
    """Row among the images."""
    true: int
    predicted: int
    size: float
    """Of the figure, in units of half the image."""


def failures(network: TinyNetwork, images: GreyImages, sizes: ArrayLike) -> list[Failure]:
    """The misclassified images, in their order; `sizes` (N,) of their figures. Raises ValueError for another number of sizes."""
    sizes = np.asarray(sizes, dtype=np.float64)
    if sizes.shape != (len(images),):
        raise ValueError(f"sizes of shape {sizes.shape}: one is needed for each of the {len(images)} images")
    predictions, _ = population_evaluate(network.architecture, images, network.parameters[None])
    predicted, true = predictions[0].cpu().numpy(), images.labels.cpu().numpy()
    return [
        Failure(int(row), int(true[row]), int(predicted[row]), float(sizes[row]))
        for row in np.flatnonzero(predicted != true)
    ]


@dataclass(frozen=True)
class SizeBin:
    """The images whose figures' sizes lie in a range."""

    low: float
    high: float
    """Not part of the range, but of the last one."""
    n_images: int
    n_correct: int


def accuracy_by_size(failed: Sequence[Failure], sizes: ArrayLike, n_bins: int = 8) -> list[SizeBin]:
    """How many images are classified correctly, in ranges of equal width from the smallest to the largest size.

    Args:
        failed: the misclassified of the images.
        sizes: (N,) of all images' figures.
        n_bins: at least 1.

    Raises ValueError for no images or no bins.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if len(sizes) == 0:
        raise ValueError("sizes: there are no images")
    if n_bins < 1:
        raise ValueError(f"n_bins = {n_bins} must be at least 1")
    wrong = np.zeros(len(sizes), dtype=bool)
    wrong[[failure.image for failure in failed]] = True
    edges = np.histogram_bin_edges(sizes, n_bins)
    counts, _ = np.histogram(sizes, edges)
    correct, _ = np.histogram(sizes[~wrong], edges)
    return [
        SizeBin(float(low), float(high), int(count), int(right))
        for low, high, count, right in zip(edges[:-1], edges[1:], counts, correct, strict=True)
    ]
