"""One epoch looked at closely: what is trained in which order, what evaluation leaves alone, which weights are kept."""

import numpy as np
import pytest
import torch

from pydyn.data.batches import ResidentImages
from pydyn.data.store import ImageStore
from pydyn.selection.controls import Fixed
from pydyn.training.loop import Parts, Training


@pytest.fixture
def make_training(store, make_run):
    def make(**changes) -> Training:
        run = make_run(precision="fp32", **changes)
        with ImageStore.open(store) as opened:
            images = ResidentImages.from_store(opened, torch.device("cpu"))
            return Training(run, images, Parts.of(run, opened), len(opened.class_names), "fp32")

    return make


def weights(training):
    return {name: value.clone() for name, value in training.network.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_an_epoch_trains_each_image_of_the_subset_once_in_an_order_of_its_own(make_training, monkeypatch):
    training = make_training(strategy=Fixed(alpha=50))
    monkeypatch.setattr(training, "evaluate", lambda part: (0.0, 0.5))
    batch, trained = training.images.batch, []
    monkeypatch.setattr(training.images, "batch", lambda index: trained.append(index) or batch(index))
    orders = []
    for _ in range(3):
        training.run_epoch()
        assert [len(index) for index in trained] == [16, 16, 16, 2]
        orders.append(torch.cat(trained).numpy())
        trained.clear()
    expected = training.parts.pool[training.strategy.subset()]
    for order in orders:
        assert np.array_equal(np.sort(order), expected)
        assert not np.array_equal(order, expected)
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


def test_evaluation_changes_nothing_and_does_not_depend_on_other_images(make_training):
    training = make_training(batch_norm=True)
    training.run_epoch()
    before = weights(training)
    every = training.evaluate(training.parts.validation)
    assert training.evaluate(training.parts.validation) == every
    assert same(before, weights(training))
    alone = [training.evaluate(training.parts.validation[[position]]) for position in range(30)]
    assert np.mean([accuracy for _, accuracy in alone]) == pytest.approx(every[1])
    assert np.mean([loss for loss, _ in alone]) == pytest.approx(every[0], rel=1e-4)


def test_the_weights_kept_are_of_the_first_best_epoch(make_training, monkeypatch):
    training = make_training()
    accuracies = iter([0.3, 0.6, 0.6, 0.2])
    monkeypatch.setattr(training, "evaluate", lambda part: (0.0, next(accuracies)))
    after = []
    for _ in range(4):
        training.run_epoch()
        after.append(weights(training))
    assert training.best_epoch == 2
    assert same(training.best_weights, after[1])
    assert not same(training.best_weights, after[3])
