"""Populations of tiny networks: K of one architecture trained and evaluated side by side, and a network without each filter."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pydyn.models.tiny import TinyCNN
from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, warn_reference

OPTIMISERS = reference.OPTIMISERS
"""Keras's `SGD`, `RMSprop` and `Adam` with its defaults (epsilon 1e-7, added to the square root); an optimiser's number is its
position."""


@dataclass(frozen=True)
class GreyImages:
    """Grey images with labels, and how networks see them: (pixel / 255 - mean) / std."""

    pixels: Tensor
    """(N, H, W) uint8, contiguous."""
    labels: Tensor
    """(N,) int64, 0 to C - 1, on the same device."""
    mean: float = 0.0
    """0 and a std of 1: numbers of 0 to 1; 0 and 1/255: the bytes themselves."""
    std: float = 1.0

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def take(self, index: Tensor) -> Self:
        """The images at these rows."""
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def normalised(self) -> Tensor:
        """As a network sees them: (N, 1, H, W) float32."""
        return reference.normalise(self.pixels, self.mean, self.std)[:, None]


def population_epoch(
    architecture: TinyCNN,
    images: GreyImages,
    order: Tensor,
    parameters: Tensor,
    moments: Tensor,
    learning_rates: Tensor,
    optimisers: Tensor,
    *,
    step: int,
    batch_size: int,
    clipped: bool = False,
) -> tuple[Tensor, Tensor]:
    """Train K networks for an epoch, each on images in an order of its own; the loss is a batch's mean cross-entropy.

    On a CPU one thread trains one network, and a network's numbers depend neither on the others nor on the threads. Other
    devices, and installations without the extension, run plain torch, all networks in each operation.

    Parameters
    ----------
    architecture : TinyCNN
    images : GreyImages
        To train on.
    order : int64 Tensor of shape (K, M)
        Rows of the images, a batch after the other; the last batch may be smaller.
    parameters : float32 Tensor of shape (K, P), contiguous
        Changed in place.
    moments : float32 Tensor of shape (K, 2, P), contiguous
        What an optimiser averages: gradients (Adam) and their squares (Adam, RMSprop). Zeros at first; changed in place.
    learning_rates : float32 Tensor of shape (K,)
    optimisers : int64 Tensor of shape (K,)
        Positions in `OPTIMISERS`.
    step : int
        Batches trained before, 0 at first.
    batch_size : int
        At least 1.
    clipped : bool
        Clip probabilities to 1e-7 and 1 - 1e-7 before their logarithm is taken, as Keras did up to version 2.2: an image whose
        own class is less or more probable has no gradient.

    Returns
    -------
    loss : float64 Tensor of shape (K,)
        Sum of the images' losses, each as it was when its batch was trained.
    correct : int64 Tensor of shape (K,)
        Likewise, correctly classified images.

    Raises
    ------
    ValueError
        If a shape, a range or a device is wrong, or a tensor is not contiguous; the message names the argument.
    TypeError
        If a dtype is wrong.
    IndexError
        If a label, a row or an optimiser's number is out of range.
    """
    op = reference.population_epoch
    if EXTENSION.loaded:
        op = torch.ops.pydyn.population_epoch.default
    else:
        warn_reference()
    loss, correct = op(
        images.pixels,
        images.labels,
        order,
        parameters,
        moments,
        learning_rates,
        optimisers,
        *_arguments(architecture, images),
        clipped,
        step,
        batch_size,
    )
    return loss, correct


def population_evaluate(architecture: TinyCNN, images: GreyImages, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Classify images by K networks.

    Parameters
    ----------
    architecture : TinyCNN
    images : GreyImages
        Their labels are not looked at.
    parameters : float32 Tensor of shape (K, P), contiguous

    Returns
    -------
    predictions : uint8 Tensor of shape (K, N)
        Of equal outputs the first.
    active : bool Tensor of shape (K, F1 + F2 + C)
        Which filters and outputs (before a ReLU on them) are above 0 anywhere.

    Raises
    ------
    ValueError, TypeError
        As `population_epoch`.
    """
    op = reference.population_evaluate
    if EXTENSION.loaded:
        op = torch.ops.pydyn.population_evaluate.default
    else:
        warn_reference()
    predictions, active = op(images.pixels, parameters, *_arguments(architecture, images))
    return predictions, active


def ablate_filters(architecture: TinyCNN, images: GreyImages, parameters: Tensor) -> Tensor:
    """Classify images by one network and by all networks that lack one of its filters, in one pass.

    The first layer's maps are computed once for all. On a CPU each network's outputs are, to the last bit, those of the smaller
    network in `population_evaluate`; in plain torch predictions may differ for images that lie between two classes.

    Parameters
    ----------
    architecture : TinyCNN
    images : GreyImages
    parameters : float32 Tensor of shape (P,), contiguous

    Returns
    -------
    int64 Tensor of shape (1 + F1 + F2,)
        Correct images: of the whole network, without each filter of the first layer, without each of the second.

    Raises
    ------
    ValueError, TypeError, IndexError
        As `population_epoch`.
    """
    op = reference.ablate_filters
    if EXTENSION.loaded:
        op = torch.ops.pydyn.ablate_filters.default
    else:
        warn_reference()
    correct: Tensor = op(images.pixels, images.labels, parameters, *_arguments(architecture, images))
    return correct


def _arguments(architecture: TinyCNN, images: GreyImages) -> tuple[list[int], int, bool, float, float]:
    if images.pixels.dim() == 3 and images.image_size != architecture.image_size:
        raise ValueError(f"images of {images.image_size} do not fit a network for {architecture.image_size}")
    return list(architecture.filters), architecture.n_classes, architecture.output_relu, images.mean, images.std


def _fake_epoch(
    images: Tensor, labels: Tensor, order: Tensor, parameters: Tensor, *arguments: object
) -> tuple[Tensor, Tensor]:
    return parameters.new_empty(len(parameters), dtype=torch.float64), labels.new_empty(len(parameters))


def _fake_evaluate(
    images: Tensor, parameters: Tensor, filters: list[int], n_classes: int, *arguments: object
) -> tuple[Tensor, Tensor]:
    n_members = len(parameters)
    active = images.new_empty((n_members, sum(filters) + n_classes), dtype=torch.bool)
    return images.new_empty((n_members, len(images))), active


def _fake_ablate(images: Tensor, labels: Tensor, parameters: Tensor, filters: list[int], *arguments: object) -> Tensor:
    return labels.new_empty(1 + sum(filters))


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::population_epoch", _fake_epoch)
    torch.library.register_fake("pydyn::population_evaluate", _fake_evaluate)
    torch.library.register_fake("pydyn::ablate_filters", _fake_ablate)
    torch.library.impl("pydyn::population_epoch", "default", reference.population_epoch)
    torch.library.impl("pydyn::population_evaluate", "default", reference.population_evaluate)
    torch.library.impl("pydyn::ablate_filters", "default", reference.ablate_filters)
