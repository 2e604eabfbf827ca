"""Convolution, bias, ReLU and max-pooling on a GPU: kernels against the reference, the layer against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from pydyn.ops import conv_relu, convolution, reference

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(2, 32, 8, 8), (3, 3, 5, 7), (1, 1, 2, 3), (5, 8, 9, 4), (2, 2056, 2, 2), (64, 64, 16, 16), (0, 8, 4, 4)]
LAYOUT = torch.channels_last


def numbers(shape, dtype, seed=0):
    """Few different values: ties, zeros, windows without anything above 0."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-4, 4, shape, generator=generator) * 0.25).to(dtype).contiguous(memory_format=LAYOUT)


def bias_of(channels, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.randint(-2, 2, (channels,), generator=torch.Generator().manual_seed(1)).to(wide) * 0.25


def assert_sums_equal(ours, theirs):
    """Multiples of 0.25: sums are exact, whatever their order."""
    assert ours.shape == theirs.shape
    assert torch.equal(ours.cpu().sum(0), theirs.sum(0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_the_reference(shape, dtype):
    activations, gradient = numbers(shape, dtype), numbers(shape, dtype, 2)
    units, sums = torch.ops.pydyn.relu_backward(gradient.cuda(), activations.cuda())
    expected_units, expected_sums = reference.relu_backward(gradient, activations)
    assert torch.equal(units.cpu(), expected_units)
    assert_sums_equal(sums, expected_sums)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_pooling_kernels_equal_the_reference(shape, dtype):
    units, bias = numbers(shape, dtype), bias_of(shape[1], dtype)
    ours = torch.ops.pydyn.bias_relu_max_pool(units.cuda(), bias.cuda())
    expected = reference.bias_relu_max_pool(units, bias)
    assert all(torch.equal(one.cpu(), other) for one, other in zip(ours, expected, strict=True))
    gradient = numbers(expected[0].shape, dtype, 2)
    back, sums = torch.ops.pydyn.bias_relu_max_pool_backward(gradient.cuda(), ours[1], *shape[2:])
    expected_back, expected_sums = reference.bias_relu_max_pool_backward(gradient, expected[1], *shape[2:])
    assert torch.equal(back.cpu(), expected_back)
    assert_sums_equal(sums, expected_sums)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (5, 1, 2), (1, 1, 0), (2, 3, 1)])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 5, 7), (3, 4, 6, 9), (0, 3, 5, 5)])
def test_patches_equal_the_reference(shape, window, stride, padding, dtype):
    images = numbers(shape, torch.float32)
    ours = torch.ops.pydyn.patches(images.cuda(), window, stride, padding, dtype)
    expected = reference.patches(images, window, stride, padding, dtype)
    assert torch.equal(ours.cpu(), expected)
    assert ours.is_contiguous(memory_format=LAYOUT)


def test_a_nan_stays():
    units = torch.full((1, 8, 2, 2), float("nan"), device="cuda").contiguous(memory_format=LAYOUT)
    bias = torch.zeros(8, device="cuda")
    assert torch.ops.pydyn.bias_relu_max_pool(units, bias)[0].isnan().all()
    assert torch.ops.pydyn.relu_backward(units, units)[0].isnan().all()


@pytest.mark.parametrize("max_pool", [False, True])
@pytest.mark.parametrize(("channels", "filters", "stride", "padding"), [(3, 32, 1, 1), (64, 128, 2, 1), (8, 5, 1, 0)])
def test_the_layer_is_no_further_from_the_truth_than_torchs_own(
    monkeypatch, channels, filters, stride, padding, max_pool
):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    layer = nn.Conv2d(channels, filters, 3, stride, padding, device="cuda").to(memory_format=LAYOUT)
    images = torch.randn(64, channels, 16, 16, device="cuda").to(memory_format=LAYOUT)

    def plain(x, weight, bias):
        activations = torch.relu(conv2d(x, weight, bias, stride, padding))
        return max_pool2d(activations, 2) if max_pool else activations

    def ours(x, weight, bias):
        return conv_relu(x, weight, bias, stride, padding, max_pool=max_pool)

    def gradients(function, dtype, autocast):
        inputs = [t.detach().to(dtype).requires_grad_() for t in (images, layer.weight, layer.bias)]
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            value = function(*inputs)
        (value.double() ** 2).sum().backward()
        return [value.detach().double(), *(t.grad.double() for t in inputs)]

    truth = gradients(plain, torch.float64, False)

    def error(values):
        """Of all of them: a bias's few numbers alone are a matter of chance."""
        return sum(((x - true).norm() / true.norm()) ** 2 for x, true in zip(values, truth, strict=True)) ** 0.5

    assert error(gradients(ours, torch.float32, True)) <= 1.1 * error(gradients(plain, torch.float32, True))
    assert error(gradients(ours, torch.float32, False)) < 1e-5


def test_images_without_gradient_go_through_patches(monkeypatch):
    wanted, decide = [], convolution._wants_patches
    monkeypatch.setattr(
        convolution, "_wants_patches", lambda *arguments: wanted.append(decide(*arguments)) or wanted[-1]
    )
    layer = nn.Conv2d(3, 32, 3, 1, 1, device="cuda").to(memory_format=LAYOUT)
    images = torch.randn(64, 3, 16, 16, device="cuda").to(memory_format=LAYOUT)
    results = []
    for given in (images, images.clone().requires_grad_()):
        layer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            value = conv_relu(given, layer.weight, layer.bias, 1, 1)
        (value.double() ** 2).sum().backward()
        results.append([value.detach().double(), layer.weight.grad.double(), layer.bias.grad.double()])
    assert wanted == [True, False]
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() < 1e-2 * other.norm()


# Layers of cnn_a and cnn_b; three channels go through patches in half precision.
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("channels", "filters", "size", "stride"),
    [
        (3, 32, 32, 1),
        (3, 3, 32, 1),
        (32, 32, 32, 1),
        (64, 64, 16, 1),
        (64, 128, 8, 2),
        (128, 128, 4, 1),
        (144, 144, 2, 1),
    ],
)
def test_what_memory_held_before_is_no_part_of_a_result(dtype, channels, filters, size, stride):
    layer = nn.Conv2d(channels, filters, 3, stride, 1, device="cuda", dtype=dtype).to(memory_format=LAYOUT)
    # Many enough that every result is over 1 MiB: smaller ones have memory of their own.
    images = torch.randn(1024, channels, size, size, device="cuda").to(dtype).to(memory_format=LAYOUT)
    copies = convolution.Copies(layer.weight.detach(), layer.bias.detach())
    values, places = [], []
    with torch.no_grad():
        conv_relu(images, layer.weight, layer.bias, stride, 1, copies=copies)  # cuDNN chooses, and takes its workspace
        for left in (0.0, float("nan"), float("inf")):
            # A pool of its own each time: what is free elsewhere and fits better would be taken first.
            with torch.cuda.use_mem_pool(torch.cuda.MemPool()):
                poison = torch.full((2**28,), left, dtype=dtype, device="cuda")  # more than all that comes, and freed
                first, last = poison.data_ptr(), poison.data_ptr() + poison.nbytes
                del poison
                value = conv_relu(images, layer.weight, layer.bias, stride, 1, copies=copies)
                places.append(first <= value.data_ptr() < last)
                values.append(value.cpu())
                del value
    assert all(places)  # else nothing was tested
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


def test_operations_keep_torchs_rules():
    units, bias = numbers((2, 8, 4, 4), torch.float32).cuda(), torch.zeros(8, device="cuda")
    torch.library.opcheck(torch.ops.pydyn.relu_backward.default, (units, units))
    torch.library.opcheck(torch.ops.pydyn.bias_relu_max_pool.default, (units, bias))
    torch.library.opcheck(torch.ops.pydyn.patches.default, (units, 3, 1, 1, torch.bfloat16))
    pooled, winner = torch.ops.pydyn.bias_relu_max_pool(units, bias)
    torch.library.opcheck(torch.ops.pydyn.bias_relu_max_pool_backward.default, (pooled, winner, 4, 4))


def test_bad_input_is_refused():
    units, bias = numbers((2, 8, 4, 4), torch.float32).cuda(), torch.zeros(8, device="cuda")
    with pytest.raises(ValueError, match="bias must be"):
        torch.ops.pydyn.bias_relu_max_pool(units, bias[:7])
    with pytest.raises(ValueError, match="put both on one device"):
        torch.ops.pydyn.bias_relu_max_pool(units, bias.cpu())
    with pytest.raises(TypeError, match="bias must be"):
        torch.ops.pydyn.bias_relu_max_pool(units, bias.double())
    with pytest.raises(ValueError, match="must be alike"):
        torch.ops.pydyn.relu_backward(units, units[:, :, :2])
    with pytest.raises(ValueError, match="with padding at least 5 x 5"):
        torch.ops.pydyn.patches(units, 5, 1, 0, torch.float32)
