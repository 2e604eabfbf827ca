"""Activation maps against the module, and the thesis's choice of images."""

import numpy as np
import pytest
import torch

from pydyn.sensitivity import activations
from pydyn.sensitivity.activations import activation_maps, choose_by_angle, choose_by_size, mean_activations


def test_maps_by_hand(by_hand):
    network, images = by_hand
    first, second = activation_maps(network, images.take(torch.tensor([0, 5, 9])))
    assert first.shape == (3, 2, 4, 4)
    assert second.shape == (3, 2, 2, 2)
    for row, (x, rest) in enumerate([(0.2, 0.0), (0.6, 0.2), (1.0, 0.6)]):
        for maps in (first, second):
            torch.testing.assert_close(maps[row, 0], torch.full_like(maps[row, 0], x))
            torch.testing.assert_close(maps[row, 1], torch.full_like(maps[row, 1], rest))
    means = mean_activations(network, images)
    np.testing.assert_allclose(means, [[0.48, 0.18]] * 2, atol=1e-6)


def test_many_images_are_taken_some_at_a_time(random_network, monkeypatch):
    network, images = random_network((3, 5))
    whole, means = activation_maps(network, images), mean_activations(network, images)
    monkeypatch.setattr(activations, "IMAGES_AT_ONCE", 7)
    for ours, theirs in zip(activation_maps(network, images), whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs, maps in zip(mean_activations(network, images), means, whole, strict=True):
        np.testing.assert_allclose(ours, theirs)
        np.testing.assert_allclose(ours, maps.double().mean((0, 2, 3)).numpy())


def test_no_images_have_maps_but_no_mean(random_network):
    network, images = random_network((3, 5))
    none = images.take(torch.arange(0))
    assert [tuple(maps.shape) for maps in activation_maps(network, none)] == [(0, 3, 12, 12), (0, 5, 6, 6)]
    with pytest.raises(ValueError, match="a mean needs at least one"):
        mean_activations(network, none)


def test_choice_of_sizes_of_the_thesis():
    generator = np.random.default_rng(0)
    labels, sizes = np.arange(300) % 3, generator.uniform(0.3, 0.9, 300)
    chosen = choose_by_size(labels, sizes)
    assert len(set(chosen.tolist())) == 27
    for label, rows in enumerate(chosen.reshape(3, 9)):
        assert (labels[rows] == label).all()
        of_class = np.sort(sizes[labels == label])
        small, middle, large = sizes[rows].reshape(3, 3)
        np.testing.assert_array_equal(np.sort(small), of_class[:3])
        np.testing.assert_array_equal(np.sort(large), of_class[-3:])
        assert np.abs(middle - 0.6).max() < 0.03
    with pytest.raises(ValueError, match="class 0 has 2 images: n_each = 1 needs 3"):
        choose_by_size([0, 0], [0.1, 0.2], n_each=1)


def test_choice_of_angles_of_the_thesis():
    generator = np.random.default_rng(0)
    labels, angles = np.arange(900) % 3, generator.uniform(0, 360, 900)
    chosen = choose_by_angle(labels, angles)
    assert len(set(chosen.tolist())) == 21
    assert [np.count_nonzero(labels[chosen] == label) for label in range(3)] == [4, 9, 8]
    wanted = [0] * 4 + [0] * 3 + [30] * 3 + [330] * 3 + [0] * 2 + [30] * 2 + [180] * 2 + [330] * 2
    distances = np.abs((angles[chosen] - wanted + 180) % 360 - 180)
    assert distances.max() < 5
    with pytest.raises(ValueError, match="class 1 has too few images for 9"):
        choose_by_angle([0, 0, 0, 0, 1], [0.0] * 5)


def test_an_image_is_chosen_for_one_angle_only():
    assert choose_by_angle([0, 0, 0], [0, 10, 300], {0: {0: 1, 5: 1, 350: 1}}).tolist() == [0, 1, 2]
