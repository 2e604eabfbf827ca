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


def test_augmented_images_are_drawn_anew_each_epoch_and_never_for_evaluation(make_training, monkeypatch):
    training = make_training(strategy=Fixed(alpha=40), augmentation="crop-flip", batch_size=64)
    plain = training.images.batch
    network, seen = training.network.forward, []
    monkeypatch.setattr(training.network, "forward", lambda images: seen.append(images.clone()) or network(images))
    order = []
    batch = training.images.augmented_batch
    monkeypatch.setattr(
        training.images, "augmented_batch", lambda index, *key: order.append(index) or batch(index, *key)
    )
    for _ in range(2):
        training.run_epoch()
    first, validation, second, _ = seen
    assert torch.equal(validation, plain(torch.from_numpy(training.parts.validation)))
    one, two = (images[torch.argsort(index)] for images, index in zip((first, second), order, strict=True))
    originals = plain(order[0].sort().values)
    # Nearly every image is moved or mirrored (one in 162 is not), each epoch otherwise.
    for some, others in ((one, originals), (two, originals), (one, two)):
        assert sum(not torch.equal(a, b) for a, b in zip(some, others, strict=True)) > 35


def test_images_weigh_in_the_gradient_as_the_strategy_says(make_training, monkeypatch):
    trained = []
    for weight in (None, 1.0, 2.0):
        training = make_training(strategy=Fixed(alpha=32), batch_size=32)
        if weight:
            monkeypatch.setattr(training.strategy, "weights", lambda weight=weight: np.full(32, weight, np.float32))
        monkeypatch.setattr(training.optimiser, "step", lambda: None)
        training.run_epoch()
        trained.append([parameter.grad.clone() for parameter in training.network.parameters()])
    for plain, one, two in zip(*trained, strict=True):
        torch.testing.assert_close(one, plain)
        torch.testing.assert_close(two, 2 * plain)


def test_the_strategy_hears_each_images_loss_and_margin(make_training, monkeypatch):
    training = make_training(strategy=Fixed(alpha=40))
    monkeypatch.setattr(training.optimiser, "step", lambda: None)  # so that losses can be computed again afterwards
    heard = []
    update = training.strategy.update
    monkeypatch.setattr(training.strategy, "update", lambda outcome: heard.append(outcome) or update(outcome))
    subset = training.strategy.subset()
    training.run_epoch()
    with torch.no_grad():
        logits = training.network(training.images.batch(training.images.indices(training.parts.pool[subset])))
    labels = training.images.labels[training.parts.pool[subset]]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    top = logits.softmax(1).topk(2).values
    assert heard[0].losses == pytest.approx(losses.numpy(), rel=1e-3, abs=1e-5)
    assert heard[0].margins == pytest.approx((top[:, 0] - top[:, 1]).numpy(), rel=1e-2, abs=1e-4)
