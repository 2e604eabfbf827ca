"""What a convolution with bias, ReLU and max-pooling is made of, in plain torch: see `csrc/conv_relu.h`."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad, unfold
from torch.nn.grad import conv2d_weight

from pydyn.ops.reference.pool import NONE, relu_max_pool, relu_max_pool_backward

# Patches are of so many channels or a multiple: what matrix units take at once.
PATCH_CHANNELS = 8
_PIXELS_PER_ROW = 16
_MAX_ROWS = 1024


def relu_backward(gradient: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of a ReLU's input, and rows whose sum is that of its bias."""
    passed = torch.where(activations <= 0, 0, gradient).contiguous(memory_format=torch.channels_last)
    return passed, _partial_sums(passed)


def bias_relu_max_pool(units: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Add a bias, then ReLU and 2x2 max-pooling; which of each window's pixels won."""
    return relu_max_pool(torch.relu(units.to(bias.dtype) + bias[:, None, None]).to(units.dtype))


def bias_relu_max_pool_backward(gradient: Tensor, winner: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The gradient of `bias_relu_max_pool`'s units, and rows whose sum is that of its bias."""
    sums = _partial_sums(torch.where(winner == NONE, 0, gradient))
    return relu_max_pool_backward(gradient, winner, height, width), sums


def sum_rows(rows: Tensor) -> Tensor:
    """What rows of partial sums (rows, C) come to: (C,)."""
    return rows.sum(0)


def patches(images: Tensor, window: int, stride: int, padding: int, dtype: torch.dtype) -> Tensor:
    """What each place of a window sees, as channels: (N, C window^2 and up to a multiple of 8, H', W')."""
    n_images, n_channels, height, width = images.shape
    out_height, out_width = ((size + 2 * padding - window) // stride + 1 for size in (height, width))
    seen = unfold(images.float() if images.dtype.itemsize < 4 else images, window, padding=padding, stride=stride)
    # unfold has the channel before the place in the window.
    seen = seen.view(n_images, n_channels, window**2, out_height, out_width).transpose(1, 2).flatten(1, 2)
    seen = pad(seen, (0, 0, 0, 0, 0, -seen.shape[1] % PATCH_CHANNELS))
    return seen.to(dtype).contiguous(memory_format=torch.channels_last)


def conv_3x3(images: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, transposed: bool) -> Tensor:
    """A convolution with padding 1, or the gradient of its images: see `csrc/conv_3x3.h`."""
    convolve = conv_transpose2d if transposed else conv2d
    out = convolve(images.float(), weight.float(), None if bias is None else bias.float(), padding=1)
    return (torch.relu(out) if relu else out).to(images.dtype).contiguous(memory_format=torch.channels_last)


def conv_3x3_weight_gradient(gradient: Tensor, images: Tensor) -> Tensor:
    """Likewise, the gradient of its weight."""
    shape = (gradient.shape[1], images.shape[1], 3, 3)
    summed: Tensor = conv2d_weight(images.float(), shape, gradient.float(), padding=1)
    return summed.contiguous(memory_format=torch.channels_last)


def partial_rows(gradient: Tensor) -> int:
    """How many rows of partial sums a gradient (N, C, H, W) has."""
    n_pixels = gradient.shape[0] * gradient.shape[2] * gradient.shape[3]
    return min(-(-n_pixels // _PIXELS_PER_ROW), _MAX_ROWS)


def _partial_sums(gradient: Tensor) -> Tensor:
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    rows = gradient.new_zeros(partial_rows(gradient), gradient.shape[1], dtype=dtype)
    rows[:1] = gradient.sum((0, 2, 3), dtype=dtype)
    return rows
