"""A 2-2 network that can be worked by hand, and random ones."""

import numpy as np
import pytest
import torch

from pydyn.models.initialisers import initial_parameters
from pydyn.models.tiny import TinyCNN, TinyNetwork
from pydyn.ops import GreyImages


def _network_of_numbers(first, first_bias, second, second_bias, dense, dense_bias):
    """A network whose kernels look at the middle pixel alone: on images of one grey it computes with single numbers.

    first (F1,), second (F2, F1), dense (C, F2), and their biases.
    """
    architecture = TinyCNN((len(first), len(second)), (4, 4), len(dense))
    parts = {name: torch.zeros(shape) for name, shape in architecture.shapes.items()}
    parts["conv1.weight"][:, 0, 1, 1] = torch.tensor(first)
    parts["conv2.weight"][:, :, 1, 1] = torch.tensor(second)
    parts["dense.weight"] = torch.tensor(dense)
    parts |= {"conv1.bias": torch.tensor(first_bias), "conv2.bias": torch.tensor(second_bias)}
    parts["dense.bias"] = torch.tensor(dense_bias)
    return TinyNetwork(architecture, architecture.join(parts))


def _grey(values, labels):
    """Images of one grey each, in 0..1."""
    pixels = torch.tensor([round(255 * value) for value in values], dtype=torch.uint8)
    return GreyImages(pixels[:, None, None].expand(-1, 4, 4).contiguous(), torch.tensor(labels))


@pytest.fixture
def network_of_numbers():
    return _network_of_numbers


@pytest.fixture
def grey():
    return _grey


@pytest.fixture
def by_hand():
    """Of a grey x: maps x and x - 0.4, passed on as they are; outputs 0.3, x and 4 (x - 0.4) - 1, where x - 0.4 > 0.

    Ten images: five of grey 0.2 are class 0 (outputs 0.3, 0.2, -1), three of 0.6 class 1 (0.3, 0.6, -0.2), two of 1.0 class 2
    (0.3, 1.0, 1.4). All are classified correctly. Without x (either layer's first filter) class 1 is lost, without x - 0.4 (the
    second) class 2; without both only class 0 is left.
    """
    network = _network_of_numbers(
        [1.0, 1.0],
        [0.0, -0.4],
        [[1.0, 0.0], [0.0, 1.0]],
        [0.0, 0.0],
        [[0.0, 0.0], [1.0, 0.0], [0.0, 4.0]],
        [0.3, 0.0, -1.0],
    )
    return network, _grey([0.2] * 5 + [0.6] * 3 + [1.0] * 2, [0] * 5 + [1] * 3 + [2] * 2)


@pytest.fixture
def random_network():
    def make(filters, size=(12, 12), seed=0, output_relu=False):
        architecture = TinyCNN(tuple(filters), size, 3, output_relu)
        generator = np.random.default_rng(seed)
        pixels = generator.integers(0, 256, (90, *size), dtype=np.uint8)
        images = GreyImages(torch.from_numpy(pixels), torch.from_numpy(generator.integers(0, 3, 90)), 0.5, 0.3)
        return TinyNetwork(architecture, initial_parameters(architecture, "he_normal", generator)), images

    return make
