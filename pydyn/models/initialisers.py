"""How a tiny network's weights begin. Biases begin at 0, as in Keras.

The thesis names no initialiser; Keras's default is `glorot_uniform`. The others are candidates for what makes a training stick.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pydyn.models.tiny import TinyCNN

Draw = Callable[[np.random.Generator, tuple[int, ...], int, int], NDArray[np.float64]]


def _glorot_uniform(
    generator: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> NDArray[np.float64]:
    limit = math.sqrt(6 / (fan_in + fan_out))
    return generator.uniform(-limit, limit, shape)


def _he_normal(
    generator: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> NDArray[np.float64]:
    return generator.standard_normal(shape) * math.sqrt(2 / fan_in)


def _normal_of(deviation: float) -> Draw:
    def draw(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
        return generator.standard_normal(shape) * deviation

    return draw


INITIALISERS: dict[str, Draw] = {
    # Glorot and Bengio 2010: Keras's default for both kinds of layer.
    "glorot_uniform": _glorot_uniform,
    # He et al. 2015.
    "he_normal": _he_normal,
    # Keras's "random_normal" with its default, whatever the layer: small.
    "normal_0.05": _normal_of(0.05),
    # Large: what `numpy.random.randn` gives.
    "normal_1": _normal_of(1.0),
}


def initial_parameters(architecture: TinyCNN, initialiser: str, generator: np.random.Generator) -> Tensor:
    """Draw the parameters of a network: (P,) float32 on the CPU.

    Args:
        architecture: of the network.
        initialiser: a key of `INITIALISERS`.
        generator: the only source of randomness; numbers of one seed are the same on every machine.

    Raises ValueError for an unknown initialiser.
    """
    if initialiser not in INITIALISERS:
        raise ValueError(f"initialiser = {initialiser!r} is unknown, allowed are {', '.join(INITIALISERS)}")
    parts = {}
    for name, shape in architecture.shapes.items():
        if len(shape) == 1:
            parts[name] = torch.zeros(shape, dtype=torch.float32, device="cpu")
        else:
            field = math.prod(shape[2:])
            drawn = INITIALISERS[initialiser](generator, shape, shape[1] * field, shape[0] * field)
            parts[name] = torch.from_numpy(drawn.astype(np.float32))
    return architecture.join(parts)
