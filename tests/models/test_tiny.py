"""Tiny networks: shapes and counts by hand, the vector of parameters, how they begin."""

import math

import numpy as np
import pytest
import torch

from pydyn.models.initialisers import INITIALISERS, initial_parameters
from pydyn.models.tiny import TinyCNN


def test_parameters_of_figure_13():
    architecture = TinyCNN((4, 4))
    sizes = {name: math.prod(shape) for name, shape in architecture.shapes.items()}
    assert sizes["conv1.weight"] + sizes["conv1.bias"] == 40
    assert sizes["conv2.weight"] + sizes["conv2.bias"] == 148
    assert sizes["dense.weight"] + sizes["dense.bias"] == 591
    assert architecture.n_parameters == 779
    assert [architecture.map_size(layer) for layer in (0, 1)] == [(14, 14), (7, 7)]
    assert architecture.n_features == 196
    assert str(TinyCNN((16, 4))) == "16-4"


def test_parameters_of_one_layer_and_odd_images():
    architecture = TinyCNN((3,), (9, 11), 5)
    assert architecture.map_size(0) == (4, 5)
    assert architecture.n_parameters == 3 * 10 + 5 * (3 * 20) + 5


@pytest.mark.parametrize("architecture", [TinyCNN((2, 3), (8, 10)), TinyCNN((4,), (7, 9), 4, output_relu=True)])
def test_split_and_join_and_the_module_agree(architecture):
    parameters = torch.arange(architecture.n_parameters).float()
    parts = architecture.split(parameters)
    assert {name: tuple(part.shape) for name, part in parts.items()} == architecture.shapes
    assert torch.equal(architecture.join(parts), parameters)
    module = architecture.module(parameters)
    assert torch.equal(torch.cat([parameter.flatten() for parameter in module.parameters()]), parameters)
    outputs = module(torch.rand(2, 1, *architecture.image_size, generator=torch.Generator().manual_seed(0)))
    assert outputs.shape == (2, architecture.n_classes)
    assert isinstance(module[-1], torch.nn.ReLU) == architecture.output_relu
    assert architecture.split(parameters.expand(6, -1))["dense.bias"].shape == (6, architecture.n_classes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": ()}, "must be of 1 or 2 layers"),
        ({"filters": (2, 2, 2)}, "must be of 1 or 2 layers"),
        ({"filters": (2, 0)}, r"filters = \(2, 0\) must each be in 1 to 64"),
        ({"filters": (65,)}, "must each be in 1 to 64"),
        ({"filters": (2,), "image_size": (3, 8)}, r"image_size = \(3, 8\) must be at least 4x4"),
        ({"filters": (2,), "n_classes": 1}, "n_classes = 1 must be in 2 to 64"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        TinyCNN(**arguments)


def test_refuses_vectors_and_parts_of_another_architecture():
    architecture = TinyCNN((2, 2))
    with pytest.raises(ValueError, match="2-2 has 355"):
        architecture.split(torch.zeros(354))
    parts = dict(architecture.split(torch.zeros(355)))
    with pytest.raises(ValueError, match=r"conv1.bias is \[3\]: 2-2 has \[2\]"):
        architecture.join(parts | {"conv1.bias": torch.zeros(3)})
    del parts["dense.bias"]
    with pytest.raises(ValueError, match=r"dense\.bias is missing"):
        architecture.join(parts)


@pytest.mark.parametrize(
    ("initialiser", "deviations"),
    [
        # Fans of conv2 are 9 * 16 both ways, of the dense layer 784 and 3.
        ("glorot_uniform", (math.sqrt(2 / (9 * 32)), math.sqrt(2 / 787))),
        ("he_normal", (math.sqrt(2 / (9 * 16)), math.sqrt(2 / 784))),
        ("normal_0.05", (0.05, 0.05)),
        ("normal_1", (1.0, 1.0)),
    ],
)
def test_initialisers_have_the_spread_of_their_source(initialiser, deviations):
    architecture = TinyCNN((16, 16))
    parts = architecture.split(initial_parameters(architecture, initialiser, np.random.default_rng(0)))
    for name, deviation in zip(("conv2.weight", "dense.weight"), deviations, strict=True):
        assert parts[name].std().item() == pytest.approx(deviation, rel=0.05)
        assert abs(parts[name].mean().item()) < 0.1 * deviation
    assert all((parts[name] == 0).all() for name in ("conv1.bias", "conv2.bias", "dense.bias"))


def test_glorot_uniform_stays_within_its_limit():
    architecture = TinyCNN((64, 64))
    weight = architecture.split(initial_parameters(architecture, "glorot_uniform", np.random.default_rng(1)))[
        "conv1.weight"
    ]
    limit = math.sqrt(6 / (9 + 9 * 64))
    assert 0.9 * limit < weight.abs().max() <= limit


def test_initial_weights_come_from_the_generator_alone():
    architecture = TinyCNN((2, 2))
    for initialiser in INITIALISERS:
        one, two, other = (initial_parameters(architecture, initialiser, np.random.default_rng(s)) for s in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="'zeros' is unknown, allowed are glorot_uniform"):
        initial_parameters(architecture, "zeros", np.random.default_rng(0))
