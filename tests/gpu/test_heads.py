"""Heads on a GPU against the same on the CPU."""

import pytest
import torch

from pydyn.models.head_setting import HeadSetting
from pydyn.training.heads import HeadResult, train_heads, winner

SETTINGS = [
    HeadSetting("linear", 1e-2, strength=1.0, power=2.0),
    HeadSetting("linear", 1e-3, weight_decay=0.1, normalisation="weighted_mean"),
    HeadSetting("redesigned", 1e-2, hidden=32, dropout=0.5, strength=2.0),
    HeadSetting("redesigned", 1e-3, hidden=32, label_smoothing=0.1, batch_size=100),
]


def train(device: str, precision: str) -> list[HeadResult]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2000,), generator=generator)
    features = torch.randn(3, 256, generator=generator)[labels] * 0.15 + torch.randn(2000, 256, generator=generator)
    rows = torch.arange(2000)
    return train_heads(
        features.half().to(device),
        labels.to(device),
        rows[:1600],
        rows[1600:],
        SETTINGS,
        epochs=6,
        patience=2,
        class_weight="balanced",
        precision=precision,
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_equals_the_cpu(precision, tolerance):
    on_gpu, on_cpu = train("cuda", precision), train("cpu", precision)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        for row, row_of_cpu in zip(one.history, other.history, strict=False):
            assert row.train_loss == pytest.approx(row_of_cpu.train_loss, abs=tolerance)
            assert row.validation_loss == pytest.approx(row_of_cpu.validation_loss, abs=tolerance)
            assert row.balanced_accuracy == pytest.approx(row_of_cpu.balanced_accuracy, abs=0.02)
    assert winner(on_gpu).head()(torch.zeros(1, 256)).shape == (1, 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_twice_gives_the_same_bits(precision):
    for one, other in zip(train("cuda", precision), train("cuda", precision), strict=True):
        assert one.history == other.history
        assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
