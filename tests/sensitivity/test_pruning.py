"""Greedy pruning worked by hand, and as properties."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pydyn.models.tiny import TinyNetwork
from pydyn.ops.extension import EXTENSION
from pydyn.sensitivity.pruning import Filter, accuracies_without, prune_greedily, remove_filters

L1F1, L1F2, L2F1, L2F2 = Filter(0, 0), Filter(0, 1), Filter(1, 0), Filter(1, 1)
needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")


def test_a_trace_by_hand(by_hand):
    pruning = prune_greedily(*by_hand)
    first, second = pruning.steps
    # Without x class 1 is lost (three of ten), without x - 0.4 class 2 (two of ten). Of the two best the first goes.
    assert first.accuracy == 1.0
    assert first.without == {L1F1: 0.7, L1F2: 0.8, L2F1: 0.7, L2F2: 0.8}
    assert first.removed == (L1F2,)
    # x - 0.4 is gone, so its filter in the second layer has nothing to tell; without x only class 0 is left.
    assert second.accuracy == 0.8
    assert second.without == {L1F1: 0.5, L2F1: 0.5, L2F2: 0.8}
    assert second.removed == (L2F2,)
    assert pruning.accuracy == 0.8
    assert pruning.network.architecture.filters == (1, 1)
    assert pruning.gone_at == {L1F1: 3, L1F2: 1, L2F1: 3, L2F2: 2}
    assert pruning.table() == [
        ["layer 1 F1", "0.700000", "0.500000"],
        ["layer 1 F2", "0.800000", "-"],
        ["layer 2 F1", "0.700000", "0.500000"],
        ["layer 2 F2", "0.800000", "0.800000"],
    ]


def widened(network, copies):
    """A network whose filters of the second layer stand there several times, their copies unread by the dense layer."""
    architecture = type(network.architecture)((2, 2 * copies), (4, 4))
    parts = dict(network.parts)
    parts["conv2.weight"] = parts["conv2.weight"].repeat(copies, 1, 1, 1)
    parts["conv2.bias"] = parts["conv2.bias"].repeat(copies)
    parts["dense.weight"] = torch.cat([parts["dense.weight"], torch.zeros(3, 2 * copies - 2)], 1)
    return TinyNetwork(architecture, architecture.join(parts))


def test_all_that_leave_every_image_correct_go_together(by_hand):
    network, images = by_hand
    pruning = prune_greedily(widened(network, 3), images)
    assert pruning.steps[0].removed == tuple(Filter(1, number) for number in (2, 3, 4, 5))
    # What follows is the trace of the network without them.
    assert pruning.steps[1:] == prune_greedily(network, images).steps
    assert pruning.table()[4] == ["layer 2 F3", "1.000000", "-", "-"]


def test_a_layer_keeps_its_last_filter_though_none_matters(by_hand):
    network, images = by_hand
    only_zeros = images.take(torch.arange(5))  # class 0 is what the biases alone give
    pruning = prune_greedily(network, only_zeros)
    assert [step.removed for step in pruning.steps] == [(L1F1, L2F1)]
    assert pruning.gone_at == {L1F1: 1, L1F2: 2, L2F1: 1, L2F2: 2}
    assert pruning.accuracy == 1.0


def test_a_network_of_one_filter_each_has_no_steps(by_hand):
    network, images = by_hand
    smallest = remove_filters(network, [L1F2, L2F2])
    pruning = prune_greedily(smallest, images)
    assert pruning.steps == ()
    assert pruning.accuracy == 0.8
    assert pruning.network == smallest


def test_one_layer_is_pruned_too(random_network):
    pruning = prune_greedily(*random_network((4,)))
    assert pruning.network.architecture.filters == (1,)
    assert sorted(pruning.gone_at) == [Filter(0, number) for number in range(4)]


@needs_extension
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.integers(0, 2**32))
def test_every_step_follows_the_rule(random_network, filters, seed):
    network, images = random_network(filters, seed=seed)
    pruning = prune_greedily(network, images)
    left = list(filters)
    gone = set()
    for step, following in zip(pruning.steps, [*pruning.steps[1:], None], strict=False):
        assert set(step.without) == set(pruning.filters) - gone
        free = [filter for filter in step.without if left[filter.layer] > 1]
        best = max(step.without[filter] for filter in free)
        assert all(filter in free and step.without[filter] == best for filter in step.removed)
        assert len(step.removed) == 1 or best == 1.0
        if len(step.removed) == 1:
            after = pruning.accuracy if following is None else following.accuracy
            assert after == step.without[step.removed[0]]
        for filter in step.removed:
            left[filter.layer] -= 1
            gone.add(filter)
    assert left == [1] * len(filters) == list(pruning.network.architecture.filters)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(2, 9), min_size=1, max_size=2), st.data())
def test_a_smaller_network_computes_what_a_masked_one_does(random_network, filters, data):
    network, images = random_network(filters, output_relu=data.draw(st.booleans()))
    removed = [
        Filter(layer, number)
        for layer, count in enumerate(filters)
        for number in data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    ]
    smaller = remove_filters(network, removed)
    masked = network.module()
    # A filter without weights and bias has a map of zeros.
    convolutions = [layer for layer in masked if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, number in removed:
            convolutions[layer].weight[number] = 0
            convolutions[layer].bias[number] = 0
        inputs = images.normalised()
        torch.testing.assert_close(smaller.module()(inputs), masked(inputs), rtol=1e-5, atol=1e-5)
    kept = [count - sum(filter.layer == layer for filter in removed) for layer, count in enumerate(filters)]
    assert list(smaller.architecture.filters) == kept
    by_formula = 10 * kept[0] + (9 * kept[0] * kept[1] + kept[1] if len(kept) == 2 else 0)
    by_formula += 3 * kept[-1] * math.prod(smaller.architecture.map_size(len(kept) - 1)) + 3
    assert smaller.architecture.n_parameters == len(smaller.parameters) == by_formula


def test_parameters_that_go_with_a_filter_of_4_4():
    """By hand: 779 parameters; a filter of the first layer takes 10 with it and 9 of each of four kernels, one of the second 37
    and 49 for each of three outputs."""
    from pydyn.models.tiny import TinyCNN

    architecture = TinyCNN((4, 4))
    network = TinyNetwork(architecture, torch.zeros(779))
    assert len(remove_filters(network, [L1F1]).parameters) == 779 - 10 - 4 * 9
    assert len(remove_filters(network, [L2F1]).parameters) == 779 - 37 - 3 * 49
    assert len(remove_filters(network, [L1F1, L2F1]).parameters) == 779 - (10 + 36) - (37 - 9 + 147)


def test_refuses(by_hand):
    network, images = by_hand
    with pytest.raises(ValueError, match="layer 2 F3 is no filter of a network 2-2"):
        remove_filters(network, [Filter(1, 2)])
    with pytest.raises(ValueError, match="layer 1 of a network 2-2 would have no filter left"):
        remove_filters(network, [L1F1, L1F2])
    with pytest.raises(ValueError, match="accuracy needs at least one"):
        accuracies_without(network, images.take(torch.arange(0)))
    with pytest.raises(ValueError, match="one network has one vector"):
        TinyNetwork(network.architecture, network.parameters[None])
