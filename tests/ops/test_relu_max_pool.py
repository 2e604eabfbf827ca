"""ReLU and max-pooling in one pass against torch's own two."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from pydyn.ops import ReLUMaxPool, reference, relu_max_pool
from pydyn.ops.extension import EXTENSION

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=f"no extension: {EXTENSION.problem}")


def torchs(images: Tensor) -> Tensor:
    return max_pool2d(torch.relu(images), 2)


def value_and_gradient(function, images: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    images = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    pooled = function(images)
    pooled.backward(upstream)
    return pooled.detach(), images.grad


@st.composite
def images_of_all_shapes(draw: st.DrawFn) -> Tensor:
    shape = [draw(st.integers(0, 3)), draw(st.integers(1, 70)), draw(st.integers(2, 9)), draw(st.integers(2, 9))]
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few different values: ties, zeros of both signs, all negative windows.
    values = torch.from_numpy(generator.integers(-3, 3, shape) * 0.5).to(draw(st.sampled_from(DTYPES)))
    values[torch.from_numpy(generator.random(shape) < 0.1)] = -0.0
    if draw(st.booleans()):
        values = values.contiguous(memory_format=torch.channels_last)
    return values[:, :, : draw(st.integers(2, shape[2]))]  # at times a part of a larger tensor


@needs_extension
@given(images_of_all_shapes())
def test_equals_torch_to_the_last_bit(images: Tensor) -> None:
    upstream = torch.randn(torchs(images).shape, generator=torch.Generator().manual_seed(0)).to(images.dtype)
    value, gradient = value_and_gradient(relu_max_pool, images, upstream)
    expected, expected_gradient = value_and_gradient(torchs, images, upstream)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient)
    assert value.is_contiguous(memory_format=torch.channels_last)


@needs_extension
@pytest.mark.parametrize("channels", [1, 64])
def test_no_zero_is_negative(channels: int) -> None:
    assert not relu_max_pool(torch.full((1, channels, 2, 2), -0.0)).signbit().any()  # torch's is -0.0


@needs_extension
@settings(max_examples=30)
@given(images_of_all_shapes())
def test_equals_the_reference(images: Tensor) -> None:
    pooled, winner = torch.ops.pydyn.relu_max_pool(images)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip((pooled, winner), reference.relu_max_pool(images), strict=True)
    )
    height, width = images.shape[2:]
    ours = torch.ops.pydyn.relu_max_pool_backward(pooled, winner, height, width)
    assert torch.equal(ours, reference.relu_max_pool_backward(pooled, winner, height, width))


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 33])
def test_special_numbers(dtype: torch.dtype, channels: int) -> None:
    nan, inf = float("nan"), float("inf")
    tiny = torch.finfo(dtype).smallest_normal / 4  # a subnormal number
    windows = [[nan, 1, 2, inf], [1, -nan, -inf, 2], [-inf, -inf, -inf, -inf], [inf, 1, inf, 0], [0, tiny, -tiny, 0]]
    images = torch.tensor(windows, dtype=dtype).reshape(5, 1, 2, 2).repeat(1, channels, 1, 1)
    value, gradient = value_and_gradient(relu_max_pool, images, torch.ones(5, channels, 1, 1, dtype=dtype))
    assert value[:2].isnan().all()
    assert torch.equal(value[2:], torchs(images)[2:])
    assert torch.equal(gradient[2:, 0].flatten(1), torch.tensor([[0] * 4, [1, 0, 0, 0], [0, 1, 0, 0]], dtype=dtype))


@needs_extension
def test_passes_torchs_own_checks() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=draw).requires_grad_()
    torch.library.opcheck(torch.ops.pydyn.relu_max_pool.default, (images,))
    assert torch.autograd.gradcheck(relu_max_pool, images)
    assert torch.autograd.gradgradcheck(relu_max_pool, images)
    compiled = torch.compile(relu_max_pool, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images), relu_max_pool(images))


@needs_extension
def test_any_number_of_threads_gives_the_same() -> None:
    images = torch.randn(64, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = value_and_gradient(relu_max_pool, images, torch.ones(64, 32, 16, 16))
        torch.set_num_threads(2)
        together = value_and_gradient(relu_max_pool, images, torch.ones(64, 32, 16, 16))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])


def test_a_forward_mode_derivative_is_torchs() -> None:
    images, tangent = torch.randn(2, 2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()
    got, expected = (torch.func.jvp(function, (images,), (tangent,))[1] for function in (relu_max_pool, torchs))
    assert torch.equal(got, expected)
    assert got.abs().sum() > 0


def test_layer_in_a_network() -> None:
    convolution = nn.Conv2d(3, 8, 3)
    images = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    ours = nn.Sequential(convolution, ReLUMaxPool())(images)
    assert torch.equal(ours, nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2))(images))


@needs_extension
@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 1, 1, 4), ValueError, r"H and W at least 2, got shape \[1, 1, 1, 4\]"),
        (torch.zeros(1, 4, 4), ValueError, "must be \\(N, C, H, W\\)"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.int64), TypeError, "must be float16, bfloat16, float32 or float64"),
    ],
)
def test_refuses(images: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        relu_max_pool(images)


@needs_extension
def test_backward_refuses_what_does_not_fit() -> None:
    gradient, winner = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="are not of images of 6 x 4 pixels"):
        torch.ops.pydyn.relu_max_pool_backward(gradient, winner, 6, 4)
    with pytest.raises(TypeError, match="winner must be uint8"):
        torch.ops.pydyn.relu_max_pool_backward(gradient, gradient, 4, 4)
    for height, width in ((1, 4), (4, 1)):
        nothing = torch.zeros(1, 1, height // 2, width // 2)
        with pytest.raises(ValueError, match=f"are not of images of {height} x {width} pixels"):
            torch.ops.pydyn.relu_max_pool_backward(nothing, nothing.byte(), height, width)
