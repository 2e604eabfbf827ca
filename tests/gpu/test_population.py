from io import BytesIO

import numpy as np
import pytest
import torch

from pydyn.models.tiny import TinyCNN, TinyNetwork
from pydyn.ops import GreyImages, ablate_filters, population_evaluate
from pydyn.sensitivity.pruning import prune_greedily
from pydyn.training.population import Member, Population

MEMBERS = [Member(0), Member(1, 3e-3, "he_normal", "rmsprop"), Member(2, 0.03, "glorot_uniform", "sgd")]


def some_images(n_images, seed):
    generator = np.random.default_rng(seed)
    half = generator.integers(3, 8, n_images)
    place = np.abs(np.arange(16) - 7.5)
    pixels = 255 * ((place[:, None] < half[:, None, None]) & (place < half[:, None, None]))
    noisy = np.clip(pixels + generator.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
    return GreyImages(torch.from_numpy(noisy), torch.from_numpy(half % 3))


def trained(filters, device):
    train, validation = some_images(160, 0).to(device), some_images(64, 1).to(device)
    population = Population(TinyCNN(filters, (16, 16)), MEMBERS, train, validation, batch_size=16)
    return population, [population.run_epoch() for _ in range(2)]


@pytest.mark.parametrize("filters", [(4, 4), (8, 2), (6,)])
def test_trains_as_on_a_cpu(filters):
    (ours, rows), (theirs, expected) = trained(filters, "cuda"), trained(filters, "cpu")
    assert ours.parameters.device.type == "cuda"
    torch.testing.assert_close(ours.parameters.cpu(), theirs.parameters, rtol=1e-3, atol=1e-3)
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row.train_loss, other.train_loss, rtol=1e-3)
        np.testing.assert_allclose(row.validation_accuracy, other.validation_accuracy, atol=2 / 64)


def test_a_state_loaded_to_a_gpu_goes_on_as_any():
    begun, restored = trained((4, 4), "cuda")[0], trained((4, 4), "cuda")[0]
    begun.run_epoch()
    file = BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, map_location="cuda", weights_only=True))
    assert np.array_equal(restored.best_epoch, begun.best_epoch)
    assert np.array_equal(restored.run_epoch().train_loss, begun.run_epoch().train_loss)


def test_the_same_members_train_the_same():
    one, two = trained((4, 4), "cuda")[0], trained((4, 4), "cuda")[0]
    assert torch.equal(one.parameters, two.parameters)


def test_a_state_of_a_gpu_goes_on_on_a_cpu():
    population, _ = trained((4, 4), "cuda")
    other = Population(population.architecture, MEMBERS, some_images(160, 0), some_images(64, 1), batch_size=16)
    other.load_state_dict(population.state_dict())
    assert torch.equal(other.parameters, population.parameters.cpu())
    assert other.run_epoch().epoch == 3


def test_evaluates_and_prunes_as_on_a_cpu():
    population, _ = trained((3, 4), "cpu")
    images = some_images(64, 1)
    for device in ("cpu", "cuda"):
        predictions, active = population_evaluate(
            population.architecture, images.to(device), population.parameters.to(device)
        )
        correct = ablate_filters(population.architecture, images.to(device), population.parameters[0].to(device))
        network = TinyNetwork(population.architecture, population.parameters[0].to(device))
        found = predictions.cpu(), active.cpu(), correct.cpu(), prune_greedily(network, images.to(device))
        if device == "cpu":
            expected = found
    assert (found[0] != expected[0]).sum() <= 2
    assert torch.equal(found[1], expected[1])
    assert (found[2] - expected[2]).abs().max() <= 2
    assert found[3].network.architecture.filters == expected[3].network.architecture.filters == (1, 1)
