"""Small populations of tiny networks, images for them, and an epoch of training."""

import numpy as np
import pytest
import torch

from pydyn.models.initialisers import initial_parameters
from pydyn.ops import OPTIMISERS, GreyImages, population_epoch
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")


def random_images(architecture, n_images, seed=0, mean=0.2, std=0.4, levels=256):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, levels, (n_images, *architecture.image_size), dtype=np.uint8)
    labels = generator.integers(0, architecture.n_classes, n_images)
    return GreyImages(torch.from_numpy(pixels), torch.from_numpy(labels), mean, std)


def drawn(architecture, n_members, initialiser="glorot_uniform", seed=0):
    draws = [
        initial_parameters(architecture, initialiser, np.random.default_rng([seed, member]))
        for member in range(n_members)
    ]
    return torch.stack(draws)


class Trained:
    """Members trained for an epoch from parameters (K, P), which stay as they are; by a function of the op's own arguments."""

    def __init__(
        self,
        architecture,
        images,
        parameters,
        order,
        optimiser="adam",
        rates=None,
        batch_size=32,
        op=None,
        clipped=False,
    ):
        n_members = len(parameters)
        self.parameters = parameters.clone()
        self.moments = torch.zeros(n_members, 2, architecture.n_parameters)
        rates = torch.full((n_members,), 1e-3) if rates is None else rates
        state = self.parameters, self.moments, rates, torch.full((n_members,), OPTIMISERS.index(optimiser))
        if op is None:
            found = population_epoch(
                architecture, images, order, *state, step=0, batch_size=batch_size, clipped=clipped
            )
        else:
            network = list(architecture.filters), architecture.n_classes, architecture.output_relu
            network = *network, images.mean, images.std
            found = op(images.pixels, images.labels, order, *state, *network, clipped, 0, batch_size)
        self.loss, self.correct = found


def orders(n_members, n_images, length=None, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([generator.permutation(n_images)[:length] for _ in range(n_members)]))
