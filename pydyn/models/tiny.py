"""Tiny networks of one or two convolutional layers, as data: their shapes, and their parameters as one vector.

Source: the thesis on the sensitivity of small CNNs, chapter 2, figure 13: convolution 3x3 with zeros around the image, ReLU,
max-pooling 2x2, once or twice, then a dense layer of one unit for each class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

MAX_FILTERS = 64
MAX_CLASSES = 64
SMALLEST_SIDE = 4


@dataclass(frozen=True)
class TinyCNN:
    """An architecture. Raises ValueError for what cannot be built."""

    filters: tuple[int, ...]
    """Of each convolutional layer, one or two, 1 to 64 each."""
    image_size: tuple[int, int] = (28, 28)
    """Height and width of the grey images, at least 4. An odd last row or column is left out of pooling."""
    n_classes: int = 3
    """2 to 64."""
    output_relu: bool = False
    """ReLU on the outputs, before the softmax: a mistake that gives the thesis's accuracies of 1/3 and 2/3."""

    def __post_init__(self) -> None:
        if len(self.filters) not in (1, 2):
            raise ValueError(f"filters = {self.filters} must be of 1 or 2 layers")
        if not all(1 <= count <= MAX_FILTERS for count in self.filters):
            raise ValueError(f"filters = {self.filters} must each be in 1 to {MAX_FILTERS}")
        if min(self.image_size) < SMALLEST_SIDE:
            raise ValueError(f"image_size = {self.image_size} must be at least {SMALLEST_SIDE}x{SMALLEST_SIDE}")
        if not 2 <= self.n_classes <= MAX_CLASSES:
            raise ValueError(f"n_classes = {self.n_classes} must be in 2 to {MAX_CLASSES}")

    def __str__(self) -> str:
        """As the thesis writes it: 16-4."""
        return "-".join(map(str, self.filters))

    def map_size(self, layer: int) -> tuple[int, int]:
        """Height and width of a layer's maps after pooling; `layer` counts from 0."""
        height, width = self.image_size
        return height >> (layer + 1), width >> (layer + 1)

    @property
    def n_features(self) -> int:
        """What the dense layer sees of an image: filter by filter, row by row."""
        return self.filters[-1] * math.prod(self.map_size(len(self.filters) - 1))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters in the order of the vector. Weights are as torch's: (out, in, 3, 3), (out, in)."""
        shapes: dict[str, tuple[int, ...]] = {}
        channels = 1
        for number, count in enumerate(self.filters, 1):
            shapes[f"conv{number}.weight"] = (count, channels, 3, 3)
            shapes[f"conv{number}.bias"] = (count,)
            channels = count
        shapes["dense.weight"] = (self.n_classes, self.n_features)
        shapes["dense.bias"] = (self.n_classes,)
        return shapes

    @property
    def n_parameters(self) -> int:
        """P, the length of the vector."""
        return sum(map(math.prod, self.shapes.values()))

    def split(self, parameters: Tensor) -> dict[str, Tensor]:
        """Views of the parts of parameters (..., P), each (..., *shape), by name."""
        if parameters.shape[-1:] != (self.n_parameters,):
            raise ValueError(f"parameters of shape {list(parameters.shape)}: {self} has {self.n_parameters}")
        parts = parameters.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Parameters (P,) from their parts by name: undoes `split`."""
        for name, shape in self.shapes.items():
            if name not in parts or tuple(parts[name].shape) != shape:
                found = list(parts[name].shape) if name in parts else "missing"
                raise ValueError(f"{name} is {found}: {self} has {list(shape)}")
        return torch.cat([parts[name].flatten() for name in self.shapes])

    def module(self, parameters: Tensor) -> nn.Sequential:
        """The network as a module with a copy of parameters (P,), from normalised images (N, 1, H, W) to outputs (N, C)."""
        parts = self.split(parameters.detach())
        layers: list[nn.Module] = []
        for number in range(1, len(self.filters) + 1):
            weight = parts[f"conv{number}.weight"]
            convolution = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], 3, padding=1)
            layers += [_with(convolution, weight, parts[f"conv{number}.bias"]), nn.ReLU(), nn.MaxPool2d(2)]
        dense = nn.utils.skip_init(nn.Linear, self.n_features, self.n_classes)
        layers += [nn.Flatten(), _with(dense, parts["dense.weight"], parts["dense.bias"])]
        return nn.Sequential(*layers, *([nn.ReLU()] if self.output_relu else []))


@dataclass(frozen=True)
class TinyNetwork:
    """An architecture with parameters. Raises ValueError if they do not fit."""

    architecture: TinyCNN
    parameters: Tensor
    """(P,) float32."""

    def __post_init__(self) -> None:
        if self.parameters.dim() != 1:
            raise ValueError(f"parameters of shape {list(self.parameters.shape)}: one network has one vector")
        self.architecture.split(self.parameters)

    @property
    def parts(self) -> dict[str, Tensor]:
        """Views of the parameters by name."""
        return self.architecture.split(self.parameters)

    def module(self) -> nn.Sequential:
        """See `TinyCNN.module`."""
        return self.architecture.module(self.parameters)


def _with(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = nn.Parameter(bias.clone())
    return layer
