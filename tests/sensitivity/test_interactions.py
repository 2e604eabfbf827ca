"""Contradictions and interactions of networks worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pydyn.sensitivity.interactions import Contradiction, contradictions, interactions, pair_interactions
from pydyn.sensitivity.pruning import Filter, PruningStep, prune_greedily

L1F1, L1F2, L2F1, L2F2 = FILTERS = Filter(0, 0), Filter(0, 1), Filter(1, 0), Filter(1, 1)


def test_interactions_by_hand(by_hand):
    found = interactions(prune_greedily(*by_hand), threshold=0.05)
    # The second layer's x - 0.4 was worth class 2, until the first layer's was gone; x is worth class 1 before and after.
    (one,) = found
    assert (one.step, one.filter, one.removed) == (1, L2F2, (L1F2,))
    assert (one.before, one.after) == pytest.approx((0.2, 0.0))
    assert one.change == pytest.approx(-0.2)


def test_all_interactions_strongest_first(by_hand):
    found = interactions(prune_greedily(*by_hand), threshold=0.0)
    assert [one.filter for one in found] == [L2F2, L1F1, L2F1]
    assert [one.change for one in found] == pytest.approx([-0.2, 0.0, 0.0])


@pytest.mark.parametrize("change", [300, -300])
def test_a_change_of_just_the_threshold_is_one(change, by_hand):
    pruning = prune_greedily(*by_hand)
    first, second = L1F1, L2F1
    for right in range(600, 5700, 7):  # of 6,000 images, with and without a filter, before and after another one went
        steps = (
            PruningStep(right / 6000, {first: (right - 300) / 6000, second: right / 6000}, (second,)),
            PruningStep(right / 6000, {first: (right - 300 - change) / 6000}, (first,)),
        )
        assert len(interactions(replace(pruning, steps=steps), threshold=0.05)) == 1, right


def test_pairs_by_hand(by_hand):
    filters, changes = pair_interactions(*by_hand)
    assert filters == FILTERS
    expected = np.zeros((4, 4))
    np.fill_diagonal(expected, np.nan)
    # When one layer's filter of a kind is gone, the other layer's is worth nothing more.
    expected[0, 2] = expected[2, 0] = -0.3
    expected[1, 3] = expected[3, 1] = -0.2
    np.testing.assert_allclose(changes, expected, atol=1e-12)


def test_a_layers_last_filter_has_no_pairs(random_network):
    _, changes = pair_interactions(*random_network((1, 3)))
    assert np.isnan(changes[:, 0]).all()
    assert np.isfinite(changes[0, 1:]).all()
    np.testing.assert_allclose(changes[1:, 1:], changes[1:, 1:].T, equal_nan=True, atol=1e-12)


def test_contradictions_by_hand(network_of_numbers, grey):
    """The second filter of both layers lifts class 1 above class 0 at x = 0.2, where class 0 is right."""
    network = network_of_numbers(
        [1.0, 1.0], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [0.3, 0.0, -1.0]
    )  # fmt: skip
    pruning = prune_greedily(network, grey([0.2] * 4 + [0.6] * 6, [0] * 4 + [1] * 6))
    # With both, outputs 0.3 and 2 x: all images of 0.2 wrong. With one, 0.3 and x: all right.
    assert pruning.steps[0].accuracy == 0.6
    assert contradictions(pruning) == [Contradiction(1, filter, 0.6, 1.0) for filter in FILTERS]
    assert contradictions(prune_greedily(*[network, grey([0.6], [1])])) == []
