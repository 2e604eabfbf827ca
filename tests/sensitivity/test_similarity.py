"""Similarity of filters by hand, and whether rankings agree."""

import numpy as np
import pytest
import torch
from scipy import stats

from pydyn.models.tiny import TinyNetwork
from pydyn.sensitivity.activations import activation_maps
from pydyn.sensitivity.similarity import (
    activation_similarity,
    greatest_similarity,
    kernel_similarity,
    l1_norms,
    rank_correlations,
)


@pytest.fixture
def alike(random_network):
    """4-3, with kernels of the first layer k, 2 k, -k and one of zeros."""
    network, images = random_network((4, 3))
    parts = {name: part.clone() for name, part in network.parts.items()}
    kernel = parts["conv1.weight"][0]
    parts["conv1.weight"] = torch.stack([kernel, 2 * kernel, -kernel, 0 * kernel])
    parts["conv1.bias"].zero_()
    return TinyNetwork(network.architecture, network.architecture.join(parts)), images


def test_l1_norms_are_sums_of_absolute_weights(alike):
    network, _ = alike
    first, second = l1_norms(network)
    assert first[1] == pytest.approx(2 * first[0])
    assert first[2:] == pytest.approx([first[0], 0])
    np.testing.assert_allclose(second, network.parts["conv2.weight"].abs().sum((1, 2, 3)).numpy(), rtol=1e-6)


def test_kernels_of_a_network_that_is_in_training_are_compared_too(alike):
    network, _ = alike
    trained = TinyNetwork(network.architecture, network.parameters.clone().requires_grad_())
    for measure in (l1_norms, kernel_similarity):
        for got, expected in zip(measure(trained), measure(network), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_kernels_by_hand(alike):
    nan = float("nan")
    expected = [[100, 100, -100, nan], [100, 100, -100, nan], [-100, -100, 100, nan], [nan] * 4]
    np.testing.assert_allclose(kernel_similarity(alike[0])[0], expected, atol=1e-9)


def test_maps_are_correlated_as_numpy_has_it(alike):
    network, images = alike
    first, second = activation_similarity(network, images)
    assert first[0, 1] == pytest.approx(100)
    assert first[0, 2] < 0  # where one answers, the other does not
    assert np.isnan(first[3]).all()
    assert np.isnan(first[:, 3]).all()
    maps = activation_maps(network, images)[1].double().transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(second, 100 * np.corrcoef(maps), atol=1e-6)
    with pytest.raises(ValueError, match="a correlation needs at least one"):
        activation_similarity(network, images.take(torch.arange(0)))


def test_the_filter_most_like_each_other():
    similarity = np.array([[100, 95, 20, np.nan], [95, 100, 97, np.nan], [20, 97, 100, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(greatest_similarity(similarity), [95, 97, 97, np.nan])


def test_rankings_that_agree_and_that_do_not():
    scores = {"step": [1, 2, 3, 4, 5], "norm": [0.1, 0.4, 0.9, 2.0, 7.0], "likeness": [9, 8, 7, 6, np.nan]}
    agree, opposed, partly = rank_correlations(scores)
    assert (agree.first, agree.second, agree.n_filters) == ("step", "norm", 5)
    assert agree.coefficient == pytest.approx(1)
    assert (opposed.second, opposed.n_filters) == ("likeness", 4)
    assert opposed.coefficient == pytest.approx(-1)
    assert partly.coefficient == pytest.approx(-1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 6),
        ([1, 2, 3, 4], [4, 3, 2, 1], 2 / 24),
        # Of 24 orders those of a coefficient of 0.8 or 1, 1 and 3, and as many of the opposite.
        ([1, 2, 3, 4], [2, 1, 3, 4], 8 / 24),
        # With ties: 1 of 3 places of the one that differs agrees, and 1 disagrees.
        ([1, 2, 3], [0, 0, 7], 2 / 3),
        (list(range(8)), list(range(8)), 2 / 40_320),
    ],
)
def test_few_filters_agree_by_chance_as_often_as_their_orders_do(first, second, expected):
    (found,) = rank_correlations({"a": first, "b": second})
    assert found.p_value == pytest.approx(expected)


def test_the_p_of_many_filters_is_students():
    values = np.random.default_rng(0).normal(size=(2, 16))
    (found,) = rank_correlations({"a": values[0], "b": values[1]})
    t = found.coefficient * (14 / (1 - found.coefficient**2)) ** 0.5
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 14))


def test_rankings_without_an_order_are_not_a_number():
    (too_few,) = rank_correlations({"a": [1, 2], "b": [2, 1]})
    (constant,) = rank_correlations({"a": [1, 2, 3], "b": [5, 5, 5]})
    assert np.isnan([too_few.coefficient, too_few.p_value, constant.coefficient]).all()
    with pytest.raises(ValueError, match=r"of the same filters, got a \[2\], b \[3\]"):
        rank_correlations({"a": [1, 2], "b": [1, 2, 3]})
