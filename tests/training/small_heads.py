"""Small heads of every kind, rows to train them on, and what their results are compared by."""

import dataclasses

import pytest
import torch

from pydyn.models.head_setting import HeadSetting
from pydyn.training.head_data import HeadData
from pydyn.training.heads import HeadResult, HeadTraining

N_FEATURES, N_CLASSES = 20, 3


def make_rows(n_rows=360, spread=0.6, seed=0, n_classes=N_CLASSES):
    """Features around a centre for each class, off centre and of different scales, and their labels: the last class is rare."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n_rows, generator=generator) ** 1.5 * n_classes).long()
    centres = torch.randn(n_classes, N_FEATURES, generator=generator) * spread
    features = centres[labels] + torch.randn(n_rows, N_FEATURES, generator=generator)
    return features * torch.linspace(0.1, 10, N_FEATURES) + 3, labels


TRAIN, VALIDATION = torch.arange(260), torch.arange(260, 360)


def make_data(precision="fp32", **options):
    return HeadData.prepare(*make_rows(), TRAIN, VALIDATION, precision=precision, **options)


def linear(learning_rate=1e-2, **options):
    return HeadSetting("linear", learning_rate, **{"batch_size": 32, **options})


def redesigned(learning_rate=1e-2, **options):
    return HeadSetting("redesigned", learning_rate, **{"hidden": 16, "batch_size": 32, **options})


MIXTURE = [
    linear(),
    redesigned(dropout=0.5, strength=1.0, power=2.0),
    linear(1e-1, weight_decay=0.1, strength=2.0),
    redesigned(3e-2, weight_decay=0.01, label_smoothing=0.1),
    linear(1e-3, strength=1.0, threshold=0.3, normalisation="weighted_mean"),
    redesigned(1e-3, normalisation="weighted_mean", strength=4.0, power=0.5),
    linear(seed=1),
    redesigned(hidden=8, batch_size=50, dropout=0.2),
    redesigned(dropout=0.1, threshold=0.5, strength=1.0),
    linear(batch_size=64, power=3.0, strength=0.5),
]


def train(settings, data=None, *, epochs=4, **options):
    training = HeadTraining(data or make_data(), settings, epochs=epochs, **options)
    while training.running:
        training.run_epoch()
    return training.results()


def without_seconds(result: HeadResult):
    return dataclasses.replace(result, seconds=0.0, weights={})


def assert_same(one: HeadResult, other: HeadResult) -> None:
    assert without_seconds(one) == without_seconds(other)
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name


def assert_close(one: HeadResult, other: HeadResult, loss: float, weight: float) -> None:
    assert (one.setting, one.best_epoch, one.ending, len(one.history)) == (
        other.setting,
        other.best_epoch,
        other.ending,
        len(other.history),
    )
    for row, row_of_other in zip(one.history, other.history, strict=True):
        assert row.train_loss == pytest.approx(row_of_other.train_loss, abs=loss)
        assert row.validation_loss == pytest.approx(row_of_other.validation_loss, abs=loss)
        # A validation row within rounding of the boundary may fall to the other side: one of a hundred.
        assert row.validation_accuracy == pytest.approx(row_of_other.validation_accuracy, abs=0.011)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=0, atol=weight, msg=lambda text, n=name: n + text)
