"""Misclassified images and accuracy by size, by hand."""

import numpy as np
import pytest
import torch

from pydyn.sensitivity.failures import Failure, accuracy_by_size, failures
from pydyn.sensitivity.pruning import Filter, remove_filters


def test_failures_by_hand(by_hand):
    network, images = by_hand
    sizes = np.linspace(0.1, 1.0, 10)
    assert failures(network, images, sizes) == []
    # Without x class 1 is taken for class 0.
    failed = failures(remove_filters(network, [Filter(0, 0)]), images, sizes)
    assert failed == [Failure(row, 1, 0, pytest.approx(0.1 * (row + 1))) for row in (5, 6, 7)]
    low, high = accuracy_by_size(failed, sizes, n_bins=2)
    assert (low.n_images, low.n_correct) == (5, 5)
    assert (high.n_images, high.n_correct) == (5, 2)
    assert (low.low, low.high, high.high) == pytest.approx((0.1, 0.55, 1.0))


def test_a_range_without_images_is_told():
    ranges = accuracy_by_size([Failure(1, 0, 1, 0.9)], [0.1, 0.9], n_bins=4)
    assert [(one.n_images, one.n_correct) for one in ranges] == [(1, 1), (0, 0), (0, 0), (1, 0)]


def test_figures_of_one_size_are_in_one_range():
    ranges = accuracy_by_size([], [0.7] * 6, n_bins=3)
    assert sum(one.n_images for one in ranges) == sum(one.n_correct for one in ranges) == 6


def test_refuses(by_hand):
    network, images = by_hand
    with pytest.raises(ValueError, match=r"sizes of shape \(3,\): one is needed for each of the 10 images"):
        failures(network, images, [0.1] * 3)
    with pytest.raises(ValueError, match="there are no images"):
        accuracy_by_size([], [])
    with pytest.raises(ValueError, match="n_bins = 0 must be at least 1"):
        accuracy_by_size([], [0.5], n_bins=0)
    assert failures(network, images.take(torch.arange(0)), []) == []
