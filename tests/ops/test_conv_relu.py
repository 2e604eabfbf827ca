"""Convolution, bias, ReLU and max-pooling as one operation against torch's own, by the reference kernels."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

from pydyn.models import cnn
from pydyn.ops import ConvReLU, conv_relu, convolution, reference
from pydyn.ops.extension import EXTENSION
from pydyn.training.dead_units import watch_units
from pydyn.training.fusion import fuse, fuse_convolutions

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=f"no extension: {EXTENSION.problem}")


def torchs(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, max_pool: bool) -> Tensor:
    activations = torch.relu(conv2d(images, weight, bias, stride, padding))
    return max_pool2d(activations, 2) if max_pool else activations


@settings(max_examples=50)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(5, 9), st.integers(1, 2), st.integers(0, 1), st.booleans())
def test_equals_torch(n: int, channels: int, size: int, stride: int, padding: int, max_pool: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(n, channels, size, size + 1), (4, channels, 3, 3), (4,)]
    ours = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    value = conv_relu(*ours, stride, padding, max_pool=max_pool)
    expected = torchs(*theirs, stride, padding, max_pool)
    torch.testing.assert_close(value, expected)
    upstream = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    value.backward(upstream)
    expected.backward(upstream)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("channels", "stride", "padding", "max_pool"), [(3, 1, 1, False), (1, 2, 0, True), (4, 1, 1, True)]
)
def test_over_patches_equals_torch(monkeypatch, channels: int, stride: int, padding: int, max_pool: bool) -> None:
    monkeypatch.setattr(convolution, "_wants_patches", lambda *arguments: True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, 9, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, channels, 3, 3, generator=generator, dtype=torch.float64)
    ours = [weight.requires_grad_(), torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    value = conv_relu(images, *ours, stride, padding, max_pool=max_pool)
    expected = torchs(images, *theirs, stride, padding, max_pool)
    torch.testing.assert_close(value, expected)
    value.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def fused() -> nn.Sequential:
    network = cnn.build("cnn_a", 3, 10, torch.Generator().manual_seed(0))
    fuse_convolutions(network)
    return network


def trained_by(network: nn.Sequential, images: Tensor, before: int = 0) -> list[Tensor]:
    """Gradients of a forward pass under autocast, with others between it and its backward pass."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(images).float().square().sum()
        for _ in range(before):
            network(images)
    network.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ops", [reference, pytest.param(torch.ops.pydyn, marks=needs_extension)], ids=["plain", "op"])
def test_a_convolution_over_few_channels_and_its_gradients_are_autograds(ops: Any, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 64, 5, 16), (3, 32, 5, 16), (64, 32, 3, 3), (64,)]
    gradient, images, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    wide = [tensor.double().requires_grad_() for tensor in (images, weight)]
    convolved = conv2d(*wide, padding=1)
    convolved.backward(gradient.double())
    layout = {"memory_format": torch.channels_last}
    out = ops.conv_3x3(images, weight, bias, True, False)
    of_images = ops.conv_3x3(gradient, weight, None, False, True)
    of_weight = ops.conv_3x3_weight_gradient(gradient, images)
    assert out.dtype == of_images.dtype == dtype and of_weight.dtype == torch.float32
    assert all(tensor.is_contiguous(**layout) for tensor in (out, of_images, of_weight))
    torch.testing.assert_close(out, torch.relu(convolved + bias[:, None, None]).to(dtype))
    torch.testing.assert_close(of_images, wide[0].grad.to(dtype))
    torch.testing.assert_close(of_weight.double(), wide[1].grad, rtol=1e-5, atol=1e-4)


def test_copies_are_of_one_forward_pass() -> None:
    images, network = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), fused()
    expected = trained_by(network, images)
    assert all(layer.copies is None for layer in network if isinstance(layer, ConvReLU))
    # Other forward passes in between, in inference mode too, do not touch them.
    for one, other in zip(trained_by(network, images, before=2), expected, strict=True):
        assert torch.equal(one, other)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network(images)
    for one, other in zip(trained_by(network, images), expected, strict=True):
        assert torch.equal(one, other)


def test_a_layer_by_itself_computes_with_its_parameters_as_they_are() -> None:
    images, network = torch.randn(2, 3, 32, 32), fused()
    with torch.autocast("cpu", torch.bfloat16):
        network(images)
        with torch.no_grad():
            network[0].weight.mul_(3)
        value = network[0](images)
        expected = torch.relu(conv2d(images, network[0].weight, network[0].bias, 1, 1))
    torch.testing.assert_close(value, expected)


def test_an_error_in_a_forward_pass_leaves_no_copies() -> None:
    network = fused()
    with pytest.raises(RuntimeError), torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 4, 32, 32))
    assert all(layer.copies is None for layer in network if isinstance(layer, ConvReLU))


def test_what_a_layer_cannot_stand_for_is_refused() -> None:
    for options in ({"bias": False}, {"dilation": 2}, {"stride": (1, 2)}, {"padding_mode": "reflect"}, {"groups": 3}):
        with pytest.raises(ValueError, match="cannot stand for"):
            ConvReLU(nn.Conv2d(3, 6, 3, **options), max_pool=False)


def test_autocast_decides_the_precision() -> None:
    images, weight, bias = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3, requires_grad=True), torch.zeros(4)
    with torch.autocast("cpu", torch.bfloat16):
        value = conv_relu(images, weight, bias)
    assert value.dtype == torch.bfloat16
    value.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32


@pytest.mark.parametrize("max_pool", [False, True])
def test_second_derivatives_are_refused(max_pool: bool) -> None:
    # A penalty on this gradient has one itself, by the weight: it would be lost, since that of a sum is a constant.
    images, weight, bias = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3, requires_grad=True), torch.zeros(4)
    total = conv_relu(images.requires_grad_(), weight, bias, max_pool=max_pool).sum()
    with pytest.raises(RuntimeError, match=r"second derivatives \(create_graph=True\) are not supported"):
        torch.autograd.grad(total, images, create_graph=True)


@pytest.mark.parametrize("max_pool", [False, True])
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("grad_mode", [False, True])
def test_a_forward_mode_derivative_is_torchs(position: int, max_pool: bool, grad_mode: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 5, 6), (4, 3, 3, 3), (4,)]
    arguments = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    along = torch.randn(shapes[position], generator=generator, dtype=torch.float64)

    def derivative(function):
        def of_one(moved: Tensor) -> Tensor:
            return function(*arguments[:position], moved, *arguments[position + 1 :], 1, 1, max_pool=max_pool)

        with torch.set_grad_enabled(grad_mode):
            return torch.func.jvp(of_one, (arguments[position],), (along,))[1]

    torch.testing.assert_close(derivative(conv_relu), derivative(torchs))


def test_gradients_of_what_needs_none_are_left_out() -> None:
    images, weight, bias = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3), torch.zeros(4, requires_grad=True)
    conv_relu(images, weight, bias).sum().backward()
    assert bias.grad is not None and images.grad is None and weight.grad is None


@pytest.mark.parametrize("name", ["cnn_a", "cnn_b", "deeper"])
def test_a_fused_network_computes_the_same_under_the_same_names(name: str) -> None:
    networks = [cnn.build(name, 3, 10, torch.Generator().manual_seed(0)).eval() for _ in range(2)]
    fuse(networks[0], torch.device("cpu"))
    fuse_convolutions(networks[1])
    assert any(isinstance(layer, ConvReLU) for layer in networks[1])
    assert networks[0].state_dict().keys() == networks[1].state_dict().keys()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(networks[1](images), networks[0](images))
    seen = []
    for network in networks:
        with watch_units(network) as highest:
            network(images)
        seen.append(highest)
    assert seen[0].keys() == seen[1].keys()
    for position, highest in seen[0].items():
        torch.testing.assert_close(highest, seen[1][position])


def test_with_batch_normalisation_nothing_is_fused() -> None:
    network = cnn.build("cnn_a", 3, 10, torch.Generator().manual_seed(0), batch_norm=True)
    fuse_convolutions(network)
    assert not any(isinstance(layer, ConvReLU) for layer in network)
