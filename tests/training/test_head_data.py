"""Features as heads train on them."""

import numpy as np
import pytest
import torch

from pydyn.training import head_data
from pydyn.training.head_data import HeadData

TRAIN, VALIDATION = torch.tensor([5, 0, 3, 8, 1]), torch.tensor([2, 9])


def features_and_labels(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(10, 4, generator=generator) + 7) * torch.tensor([1.0, 100.0, 0.01, 1.0])
    return features.to(dtype), torch.arange(10) % 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("chunk", [2, 1024])
def test_features_are_standardised_over_the_training_rows(dtype, chunk, monkeypatch):
    monkeypatch.setattr(head_data, "CHUNK_ROWS", chunk)
    features, labels = features_and_labels(dtype)
    data = HeadData.prepare(features, labels, TRAIN, VALIDATION)
    exact = features.double()
    mean, std = exact[TRAIN].mean(0), exact[TRAIN].std(0, correction=0)
    torch.testing.assert_close(data.features.double(), (exact[TRAIN] - mean) / std, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        data.validation_features.double(), (exact[VALIDATION] - mean) / std, rtol=1e-4, atol=1e-4
    )
    assert torch.equal(data.labels, labels[TRAIN])
    assert torch.equal(data.validation_labels, labels[VALIDATION])
    assert (data.n_classes, data.n_features, data.features.dtype) == (3, 4, torch.float32)


def test_a_constant_dimension_becomes_zero_everywhere():
    features, labels = features_and_labels()
    features[:, 1] = 0.1  # no binary fraction: its mean is rounded
    features[VALIDATION, 1] = 5
    features[:, 3] = 0
    data = HeadData.prepare(features, labels, TRAIN, VALIDATION)
    for part in (data.features, data.validation_features):
        assert not part[:, [1, 3]].any()
        assert part.isfinite().all()


def test_without_standardising_nothing_changes():
    features, labels = features_and_labels()
    data = HeadData.prepare(features, labels, TRAIN, VALIDATION, standardise=False, precision="bf16", n_classes=5)
    assert data.standardisation is None
    assert data.n_classes == 5
    assert torch.equal(data.features, features[TRAIN].bfloat16())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": torch.zeros(10, 4).double()}, TypeError, "features must be float16, bfloat16 or float32, got"),
        ({"features": torch.zeros(10)}, ValueError, r"features must have shape \(N, D\) with D at least 1, got \[10\]"),
        ({"features": torch.zeros(4, 10).t()}, ValueError, "matrix must be contiguous"),
        ({"labels": torch.zeros(9, dtype=torch.int64)}, ValueError, r"labels must have shape \[10\], .* got \[9\]"),
        ({"labels": torch.zeros(10)}, TypeError, "labels must be int64, got torch.float32"),
        ({"labels": torch.zeros(10, dtype=torch.int64)}, ValueError, "n_classes = 1: a classifier needs at least 2"),
        ({"labels": torch.arange(10) - 1}, ValueError, "labels hold -1: with n_classes = 9 allowed are 0 to 8"),
        ({"n_classes": 2}, ValueError, "labels hold 2: with n_classes = 2 allowed are 0 to 1"),
        ({"train": torch.tensor([1, 10])}, ValueError, "train holds row 10: features have rows 0 to 9"),
        ({"train": torch.tensor([1])}, ValueError, r"train must be a list of at least 2 rows, got shape \[1\]"),
        ({"validation": torch.tensor([-1])}, ValueError, "validation holds row -1"),
        ({"validation": torch.tensor([1], dtype=torch.int32)}, TypeError, "validation must be int64"),
        ({"validation": torch.empty(0, dtype=torch.int64)}, ValueError, "validation must be a list of at least 1 row"),
        ({"validation": torch.tensor([2, 3, 5])}, ValueError, "validation shares 2 of its 3 rows with train"),
        ({"train": TRAIN.numpy()}, TypeError, "train must be a tensor, got ndarray; torch.as_tensor makes one"),
        ({"validation": [2, 9]}, TypeError, "validation must be a tensor, got list"),
        ({"features": np.zeros((10, 4))}, TypeError, "features must be a tensor, got ndarray"),
        ({"precision": "fp16"}, ValueError, "precision = 'fp16' is none of fp32, bf16"),
    ],
)
def test_refuses(changes, error, message):
    features, labels = features_and_labels()
    arguments = {"features": features, "labels": labels, "train": TRAIN, "validation": VALIDATION, **changes}
    with pytest.raises(error, match=message):
        HeadData.prepare(**arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused_by_row(value):
    features, labels = features_and_labels()
    features[9, 1] = value
    with pytest.raises(ValueError, match="features hold NaN or infinity in row 9"):
        HeadData.prepare(features, labels, TRAIN, VALIDATION)
    features[9], features[7] = 0, value  # of no part
    HeadData.prepare(features, labels, TRAIN, VALIDATION)


@pytest.mark.parametrize("standardise", [True, False])
def test_features_with_a_gradient_are_taken_as_numbers(standardise):
    features, labels = features_and_labels()
    expected = HeadData.prepare(features, labels, TRAIN, VALIDATION, standardise=standardise)
    data = HeadData.prepare(features.requires_grad_(), labels, TRAIN, VALIDATION, standardise=standardise)
    assert torch.equal(data.features, expected.features)
    assert not data.features.requires_grad and not data.validation_features.requires_grad
