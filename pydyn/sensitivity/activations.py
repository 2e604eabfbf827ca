"""Activation maps: what each filter answers to chosen images.

Source: the thesis, chapter 2 (figures 14 to 16): the maps of both layers for a fixed choice of images, images in rows and filters
in columns. Maps are a layer's after its ReLU and before pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages

IMAGES_AT_ONCE = 256


def activation_maps(network: TinyNetwork, images: GreyImages) -> list[Tensor]:
    """The maps of each layer: (N, F1, H, W) and (N, F2, H // 2, W // 2), float32, at least 0, on the images' device.

    As large as they are for few images; see `mean_activations` for many.
    """
    parts = list(layer_maps(network, images))
    return [torch.cat([part[layer] for part in parts]) for layer in range(len(network.architecture.filters))]


def mean_activations(network: TinyNetwork, images: GreyImages) -> list[NDArray[np.float64]]:
    """The mean of each filter's maps over all pixels and images, layer by layer: (F1,) and (F2,). Images: not empty."""
    if len(images) == 0:
        raise ValueError("images: a mean needs at least one")
    sums = [np.zeros(count) for count in network.architecture.filters]
    for layers in layer_maps(network, images):
        for total, maps in zip(sums, layers, strict=True):
            total += maps.double().mean((2, 3)).sum(0).cpu().numpy()
    return [total / len(images) for total in sums]


def layer_maps(network: TinyNetwork, images: GreyImages) -> Iterator[list[Tensor]]:
    """The maps of some images after the other, as `activation_maps` gives those of all."""
    module = network.module().to(images.pixels.device)
    for start in range(0, max(1, len(images)), IMAGES_AT_ONCE):
        some = torch.arange(start, min(start + IMAGES_AT_ONCE, len(images)), device=images.pixels.device)
        layers, output = [], images.take(some).normalised()
        with torch.no_grad():
            for layer in module:
                if isinstance(layer, nn.Flatten):
                    break
                output = layer(output)
                if isinstance(layer, nn.ReLU):
                    layers.append(output)
        yield layers


def choose_by_size(labels: ArrayLike, sizes: ArrayLike, n_each: int = 3) -> NDArray[np.int64]:
    """The thesis's choice for sets of different sizes: of each class the smallest, the middle and the largest images.

    Args:
        labels: (N,) of 0 to C - 1.
        sizes: (N,) of the figures.
        n_each: images of each class and size; 3 in the thesis, 27 images of three classes.

    Returns:
        (3 n_each C,) rows, by class and then by size; the middle ones lie nearest to half way between smallest and largest.

    Raises ValueError if a class has fewer than 3 n_each images.
    """
    labels, sizes = np.asarray(labels), np.asarray(sizes, dtype=np.float64)
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 3 * n_each:
            raise ValueError(
                f"class {label} has {len(rows)} images: n_each = {n_each} needs {3 * n_each} of each class"
            )
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        smallest, rest, largest = rows[:n_each], rows[n_each:-n_each], rows[-n_each:]
        middle = (sizes[rows[0]] + sizes[rows[-1]]) / 2
        nearest = rest[np.argsort(np.abs(sizes[rest] - middle), kind="stable")[:n_each]]
        chosen += [smallest, np.sort(nearest), largest]
    return np.concatenate(chosen).astype(np.int64)


# The thesis's choice for rotated sets: how many images of each class (ellipse, rectangle, triangle), at which angles in degrees.
ROTATION_CHOICE: dict[int, dict[float, int]] = {
    0: {0: 4},
    1: {0: 3, 30: 3, 330: 3},
    2: {0: 2, 30: 2, 180: 2, 330: 2},
}


def choose_by_angle(
    labels: ArrayLike, angles: ArrayLike, wanted: Mapping[int, Mapping[float, int]] = ROTATION_CHOICE
) -> NDArray[np.int64]:
    """The thesis's choice for rotated sets: of each class the images nearest to some angles.

    Args:
        labels: (N,).
        angles: (N,), of the figures in degrees.
        wanted: for each class, how many images at which angles.

    Returns:
        Rows by class, angle and distance from it, none twice: 21 of the thesis's choice.

    Raises ValueError if a class has fewer images than are wanted.
    """
    labels, angles = np.asarray(labels), np.asarray(angles, dtype=np.float64)
    chosen: list[int] = []
    for label, counts in wanted.items():
        for angle, count in counts.items():
            rows = np.setdiff1d(np.flatnonzero(labels == label), chosen)
            if len(rows) < count:
                raise ValueError(f"class {label} has too few images for {sum(counts.values())} different ones")
            distances = np.abs((angles[rows] - angle + 180) % 360 - 180)
            chosen += rows[np.argsort(distances, kind="stable")[:count]].tolist()
    return np.array(chosen, dtype=np.int64)
