"""Fused layers compute what the layers did that they stand for, to the last bit."""

import pytest
import torch
from torch import nn

from pydyn.models import cnn
from pydyn.ops import ReLUMaxPool
from pydyn.training.fusion import fuse


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", list(cnn.CNN))
def test_outputs_gradients_and_names_stay(model: str, precision: torch.dtype) -> None:
    def network() -> nn.Sequential:
        built = cnn.build(model, 3, 10, torch.Generator().manual_seed(0))
        return built.to(memory_format=torch.channels_last)

    plain, fused = network(), network()
    fuse(fused)
    assert sum(isinstance(layer, ReLUMaxPool) for layer in fused) == 3
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in fused)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for one in (plain, fused):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = one(images)
        logits.float().square().sum().backward()
    assert list(plain.state_dict()) == list(fused.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(images), fused(images))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), fused.parameters(), strict=True))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.ReLU(), nn.MaxPool2d(3)],
        [nn.ReLU(), nn.MaxPool2d(2, stride=1)],
        [nn.ReLU(), nn.MaxPool2d(2, padding=1)],
        [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)],
        [nn.MaxPool2d(2), nn.ReLU()],
        [nn.ReLU()],
        [],
    ],
)
def test_other_layers_are_left_alone(layers: list[nn.Module]) -> None:
    network = nn.Sequential(*layers)
    fuse(network)
    assert list(network) == layers
