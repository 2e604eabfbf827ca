"""How alike a layer's filters are, which weigh most, and whether the rankings agree.

Source: the thesis's future work: L1 norms of the kernels as a ranking, and the similarity of filters in per cent, found
automatically.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr

from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages
from pydyn.sensitivity.activations import layer_maps

Matrix = NDArray[np.float64]

# For a p all orders of so few filters are gone through (40,320 of 8). Student's t, which is meant for more, gives 0 for any three
# or four that agree, where 1 of 3 and 1 of 12 orders agree or disagree as well.
EXACT_UP_TO = 8


def l1_norms(network: TinyNetwork) -> list[NDArray[np.float64]]:
    """Sum of the absolute weights of each filter's kernel, without its bias, layer by layer: (F1,) and (F2,)."""
    return [np.abs(kernels).sum(1) for kernels in _kernels(network)]


def kernel_similarity(network: TinyNetwork) -> list[Matrix]:
    """Cosine of each pair of kernels of a layer, in per cent: (F, F), -100..100; NaN for a kernel of zeros."""
    return [_correlation(kernels @ kernels.T) for kernels in _kernels(network)]


def activation_similarity(network: TinyNetwork, images: GreyImages) -> list[Matrix]:
    """Correlation of each pair of filters' activation maps over all pixels of all images, in per cent.

    Returns:
        (F, F) of each layer, -100..100; NaN for a filter whose maps are constant, as those of a dead one.
    """
    if len(images) == 0:
        raise ValueError("images: a correlation needs at least one")
    products: list[Matrix] = [np.zeros((count, count)) for count in network.architecture.filters]
    sums = [np.zeros(count) for count in network.architecture.filters]
    n_pixels = [0] * len(sums)
    for layers in layer_maps(network, images):
        for layer, maps in enumerate(layers):
            values = maps.double().transpose(0, 1).flatten(1).cpu().numpy()
            products[layer] += values @ values.T
            sums[layer] += values.sum(1)
            n_pixels[layer] += values.shape[1]
    return [
        _correlation(product / count - np.outer(total / count, total / count))
        for product, total, count in zip(products, sums, n_pixels, strict=True)
    ]


def _kernels(network: TinyNetwork) -> list[Matrix]:
    """Each filter's weights in a row, layer by layer."""
    return [
        network.parts[f"conv{layer}.weight"].flatten(1).double().numpy(force=True)
        for layer in range(1, len(network.architecture.filters) + 1)
    ]


def _correlation(covariance: Matrix) -> Matrix:
    """In per cent, from a matrix of products or covariances."""
    variances = np.diag(covariance).copy()
    # What is left of a constant's variance is rounding.
    variances[variances <= 1e-12 * max(variances.max(), 1e-300)] = np.nan
    scale = np.sqrt(variances)
    percent: Matrix = 100 * covariance / np.outer(scale, scale)
    return np.clip(percent, -100, 100)


def greatest_similarity(similarity: Matrix) -> NDArray[np.float64]:
    """For each filter of a layer its similarity to the filter most like it, in per cent: (F,), NaN if there is none."""
    others = similarity.copy()
    np.fill_diagonal(others, np.nan)
    return np.array([np.nanmax(row) if np.isfinite(row).any() else np.nan for row in others])


@dataclass(frozen=True)
class RankCorrelation:
    """Whether two rankings of the same filters agree."""

    first: str
    second: str
    n_filters: int
    """Filters that both rank."""
    coefficient: float
    """Spearman's, -1..1; NaN for fewer than three filters, or if one of the two is constant."""
    p_value: float
    """Of no relation, two-sided: exact for up to 8 filters, by Student's t for more; NaN likewise."""


def rank_correlations(scores: Mapping[str, ArrayLike]) -> list[RankCorrelation]:
    """Spearman's rank correlation of each pair of scores: the step at which a filter went, its L1 norm, its mean activation.

    Args:
        scores: by name, each (F,), a number for each filter in the same order; NaN leaves a filter out.

    Raises ValueError if the scores differ in length.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"scores must be of the same filters, got {shapes}")
    return [_rank_correlation(pair, [arrays[name] for name in pair]) for pair in combinations(arrays, 2)]


def _rank_correlation(names: tuple[str, str], values: Sequence[NDArray[np.float64]]) -> RankCorrelation:
    both = np.isfinite(values).all(0)
    first, second = (array[both] for array in values)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return RankCorrelation(*names, len(first), float("nan"), float("nan"))
    coefficient, p_value = spearmanr(first, second)
    if len(first) <= EXACT_UP_TO:
        p_value = _exact_p_value(first, second)
    return RankCorrelation(*names, len(first), float(coefficient), float(p_value))


def _exact_p_value(first: Matrix, second: Matrix) -> float:
    """Share of all orders of a ranking that agree, or disagree, with the other one at least as well as its own does."""
    ranks, others = (rankdata(values) - (len(values) + 1) / 2 for values in (first, second))
    products = np.abs(np.array(list(permutations(ranks))) @ others)
    return float(np.mean(products >= abs(ranks @ others) - 1e-9))
