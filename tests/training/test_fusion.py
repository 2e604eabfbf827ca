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
    fuse(fused, torch.device("cpu"))
    # Between ReLU and pooling of `normalised` stands a normalisation.
    expected = {"cnn_a": 3, "cnn_b": 3, "base": 1, "deeper": 2, "normalised": 0}[model]
    assert sum(isinstance(layer, ReLUMaxPool) for layer in fused) == expected
    assert any(isinstance(layer, nn.MaxPool2d) for layer in fused) == (model == "normalised")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for one in (plain, fused):
        for layer in one:
            layer.train(not isinstance(layer, nn.Dropout))  # which would draw anew for each
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = one(images)
        logits.float().square().sum().backward()
    assert list(plain.state_dict()) == list(fused.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), fused.eval()(images))
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
    fuse(network, torch.device("cpu"))
    assert list(network) == layers
