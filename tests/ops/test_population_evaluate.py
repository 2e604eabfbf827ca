"""Evaluation and ablation of tiny networks: the kernels against their modules, plain torch and smaller networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pydyn.models.tiny import TinyCNN
from pydyn.ops import ablate_filters, population_evaluate, reference
from tests.ops.small_populations import drawn, needs_extension, random_images


@pytest.mark.parametrize("op", ["kernel", "reference"])
@pytest.mark.parametrize("filters", [(3, 5), (6,)])
@pytest.mark.parametrize("output_relu", [False, True])
def test_evaluation_is_that_of_the_module(op, filters, output_relu, monkeypatch):
    if op == "reference":
        monkeypatch.setattr(reference.population, "EVALUATED_AT_ONCE", 50)
    architecture = TinyCNN(filters, (11, 14), 4, output_relu)
    images = random_images(architecture, 37)
    parameters = drawn(architecture, 4)
    parts = architecture.split(parameters)
    parts["conv1.bias"][0, 1] = -100  # a dead filter
    parts["dense.bias"][1, 2] = -100  # a dead output
    if op == "kernel":
        predictions, active = population_evaluate(architecture, images, parameters)
    else:
        arguments = list(filters), 4, output_relu, images.mean, images.std
        predictions, active = reference.population_evaluate(images.pixels, parameters, *arguments)
    for member in range(4):
        module = architecture.module(parameters[member])
        maps, units = images.normalised(), []
        for layer in module:
            maps = layer(maps)
            if isinstance(layer, torch.nn.MaxPool2d):
                units.append((maps > 0).flatten(2).any(2).any(0))
            if isinstance(layer, torch.nn.Linear):
                units.append((maps > 0).any(0))
        assert torch.equal(predictions[member].long(), maps.argmax(1))
        assert torch.equal(active[member], torch.cat(units))
    assert not active[0, 1]
    assert not active[1, sum(filters) + 2]


def n_correct(architecture, images, parameters):
    predictions, _ = population_evaluate(architecture, images, parameters[None])
    return (predictions[0] == images.labels).sum().item()


def without(architecture, parameters, layer, position):
    """The smaller network that is left when a filter is removed."""
    parts = dict(architecture.split(parameters))
    kept = [filter for filter in range(architecture.filters[layer]) if filter != position]
    for name in ("weight", "bias"):
        parts[f"conv{layer + 1}.{name}"] = parts[f"conv{layer + 1}.{name}"][kept]
    reader = f"conv{layer + 2}.weight" if layer + 1 < len(architecture.filters) else "dense.weight"
    count = architecture.filters[layer]
    parts[reader] = parts[reader].unflatten(1, (count, -1))[:, kept].flatten(1, 2)
    filters = list(architecture.filters)
    filters[layer] -= 1
    smaller = TinyCNN(tuple(filters), architecture.image_size, architecture.n_classes, architecture.output_relu)
    return smaller, smaller.join(parts)


@needs_extension
@settings(max_examples=25)
@given(
    filters=st.lists(st.integers(2, 19), min_size=1, max_size=2),
    size=st.tuples(st.integers(4, 17), st.integers(4, 17)),
    n_classes=st.integers(2, 4),
    output_relu=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_ablation_equals_the_smaller_networks(filters, size, n_classes, output_relu, seed):
    architecture = TinyCNN(tuple(filters), size, n_classes, output_relu)
    images, parameters = random_images(architecture, 150, seed), drawn(architecture, 1, "he_normal", seed)[0]
    found = ablate_filters(architecture, images, parameters).tolist()
    expected = [n_correct(architecture, images, parameters)]
    for layer, count in enumerate(filters):
        for position in range(count):
            smaller, rest = without(architecture, parameters, layer, position)
            expected.append(n_correct(smaller, images, rest))
    assert found == expected


@pytest.mark.parametrize("filters", [(1, 4), (3, 1), (2,)])
def test_ablation_in_plain_torch_and_of_a_layers_last_filter(filters):
    architecture = TinyCNN(filters, (10, 10))
    images, parameters = random_images(architecture, 60), drawn(architecture, 1)[0]
    arguments = list(filters), 3, False, images.mean, images.std
    expected = reference.ablate_filters(images.pixels, images.labels, parameters, *arguments)
    assert expected.shape == (1 + sum(filters),)
    assert torch.equal(ablate_filters(architecture, images, parameters), expected)
