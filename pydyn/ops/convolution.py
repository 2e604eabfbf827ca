"""A convolution with what follows it: bias, ReLU and, if wished, max-pooling.

The convolution itself is `pydyn.ops.plain_convolution`.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, has_tangent
from pydyn.ops.plain_convolution import convolve, convolve_relu, images_gradient, weight_gradient
from pydyn.ops.reference.checks import check_first_derivative
from pydyn.ops.streams import backward_beside

LAYOUT = torch.channels_last
# Numbers of a patch: beyond that copying pixels costs more than the convolution.
_MAX_PATCH = 256


class Copies(NamedTuple):
    """A convolution's parameters in another precision."""

    weight: Tensor
    bias: Tensor


def conv_relu(
    images: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int = 1,
    padding: int = 0,
    *,
    max_pool: bool = False,
    copies: Copies | None = None,
) -> Tensor:
    """Convolve, add the bias, then ReLU and, with `max_pool`, max-pooling over windows of 2x2 pixels.

    Made for CUDA, where torch goes over a convolution's output once for the bias and once for the ReLU, and over its gradient
    once for the ReLU and once to sum it up for the bias. The gradients of weight and bias are made beside the rest, in a graph at
    least (see `pydyn.ops.streams`): nothing but the optimiser waits for them. In half precision a
    convolution over few channels becomes one of 1x1 pixels over patches (see `csrc/conv_relu.h`), which keeps matrix units
    busy. Within autocast the convolution is of its precision, as torch's own; sums stay in float32. There is no second
    derivative: `create_graph=True` is refused.

    Parameters
    ----------
    images : Tensor of shape (N, C_in, H, W), float16, bfloat16, float32 or float64
    weight : Tensor of shape (C_out, C_in, h, w), images' dtype; within autocast any
    bias : Tensor of shape (C_out,), weight's dtype
    stride, padding : int
        Of the convolution, in both directions.
    max_pool : bool
        An odd last row or column is left out, as in torch.
    copies : Copies, optional
        What weight and bias are in the precision of the convolution; made here if not given.

    Returns
    -------
    Tensor of shape (N, C_out, H', W'), channels-last (with a forward-mode derivative, which plain torch makes, in any layout)
        The order of its gradients' sums depends on shapes alone, for tensors as torch allocates them and if cuDNN is told to
        be deterministic. A NaN in the convolution's output may come out as 0 without max-pooling: cuDNN's ReLU does not
        promise to pass it on.

    Raises
    ------
    RuntimeError, ValueError
        If shapes do not fit together.
    """
    if has_tangent(images, weight, bias):
        activations = torch.relu(torch.conv2d(images, weight, bias, stride, padding))
        return max_pool2d(activations, 2) if max_pool else activations
    kind = images.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
    with torch.autocast(kind, enabled=False):
        copies = copies or Copies(weight.detach().to(dtype), bias.detach().to(dtype))
        used = copies.weight
        if _wants_patches(images, weight, dtype):
            images = _kernels().patches(images, weight.shape[2], stride, padding, dtype)
            used, stride, padding = _over_patches(used), 1, 0
        images = images.to(dtype)
        # The kernels with max-pooling add the bias in the precision that they sum in.
        wide = torch.promote_types(dtype, torch.float32)
        added = bias.detach().to(wide).contiguous() if max_pool else copies.bias
        if not torch.is_grad_enabled():
            return _forward(images, used, added, stride, padding, max_pool)[0]
        with backward_beside(images.device):
            takers = _ParameterGradients.apply(weight, bias, images.detach(), used, stride, padding, max_pool)
        result: Tensor = _ConvReLU.apply(images, used, added, *takers, stride, padding, max_pool)
    return result


class ConvReLU(nn.Module):
    """`conv_relu` as a layer, with the parameters of a convolution."""

    def __init__(self, convolution: nn.Conv2d, max_pool: bool) -> None:
        """Take over a convolution's parameters. Raises ValueError if `can_stand_for` it is not."""
        if not self.can_stand_for(convolution):
            raise ValueError(f"ConvReLU cannot stand for {convolution}; see ConvReLU.can_stand_for")
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.stride = convolution.stride[0]
        self.padding = int(convolution.padding[0])
        self.max_pool = max_pool
        self.copies: Copies | None = None

    @staticmethod
    def can_stand_for(convolution: nn.Conv2d) -> bool:
        """Whether it has a bias, one stride and one padding for both directions, and nothing out of the ordinary."""
        if convolution.bias is None or not isinstance(convolution.padding, tuple):
            return False
        options = (convolution.dilation, convolution.groups, convolution.padding_mode)
        one = len(set(convolution.stride)) == len(set(convolution.padding)) == 1
        return one and options == ((1, 1), 1, "zeros")

    def forward(self, images: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        assert self.bias is not None
        return conv_relu(
            images, self.weight, self.bias, self.stride, self.padding, max_pool=self.max_pool, copies=self.copies
        )


@torch.no_grad()
def copy_parameters(layers: Sequence[ConvReLU], dtype: torch.dtype) -> None:
    """Give layers copies of their parameters for one forward pass in another precision, made by one kernel.

    They are to be taken back (`layer.copies = None`) after it, before parameters change.
    """
    if not layers:
        return
    parameters: list[Tensor] = [parameter for layer in layers for parameter in layer.parameters()]
    copies = [torch.empty_like(parameter, dtype=dtype) for parameter in parameters]
    torch._foreach_copy_(copies, parameters)
    for layer, weight, bias in zip(layers, copies[::2], copies[1::2], strict=True):
        layer.copies = Copies(weight, bias)


def _wants_patches(images: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether to convolve over patches. The gradient of the images is not to be had that way."""
    _, n_channels, height, width = weight.shape
    small = n_channels < reference.PATCH_CHANNELS and height == width > 1 and weight[0].numel() <= _MAX_PATCH
    return images.is_cuda and small and dtype.itemsize == 2 and not images.requires_grad


def _over_patches(weight: Tensor) -> Tensor:
    """A weight (C_out, C_in, w, w) as one over patches: (C_out, C_in w^2 and up to a multiple of 8, 1, 1)."""
    rows = weight.permute(0, 2, 3, 1).flatten(1)
    return pad(rows, (0, -rows.shape[1] % reference.PATCH_CHANNELS))[:, :, None, None].contiguous(memory_format=LAYOUT)


def _not_over_patches(weight: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_over_patches`, for a weight of `shape`."""
    filters, channels, height, width = shape
    rows = weight.flatten(1)[:, : channels * height * width]
    return rows.reshape(filters, height, width, channels).permute(0, 3, 1, 2)


class _ParameterGradients(torch.autograd.Function):
    """What stands between a convolution and its parameters, which have no part in it as autograd sees it: takes the gradient of
    the convolution's output and that of the bias in partial sums, and makes the parameters' of them.

    `used` is the weight as it is convolved with."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        images: Tensor,
        used: Tensor,
        stride: int,
        padding: int,
        max_pool: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.stride, ctx.padding, ctx.dtype, ctx.shape = stride, padding, weight.dtype, weight.shape
        ctx.save_for_backward(images, used)
        height, width = (
            (size + 2 * padding - window) // stride + 1
            for size, window in zip(images.shape[2:], used.shape[2:], strict=True)
        )
        units = images.new_empty(()).expand(len(images), len(weight), height, width)
        summed = units[:, :, : height // 2, : width // 2] if max_pool else units
        sums = images.new_empty((), dtype=torch.promote_types(images.dtype, torch.float32))
        return units, sums.expand(reference.partial_rows(summed), len(weight))

    @staticmethod
    def backward(ctx: Any, of_units: Tensor, partial_sums: Tensor) -> tuple[Tensor | None, ...]:
        images, used = ctx.saved_tensors
        if images.is_cuda:  # whose memory is of another stream, which must not use it again before this one is done
            images.record_stream(torch.cuda.current_stream(images.device))
        of_weight = weight_gradient(of_units, images, used, ctx.stride, ctx.padding)
        if of_weight.shape != ctx.shape:
            of_weight = _not_over_patches(of_weight, ctx.shape)
        return of_weight.to(ctx.dtype), _kernels().sum_rows(partial_sums).to(ctx.dtype), *[None] * 5


class _ConvReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        units_taker: Tensor,
        sums_taker: Tensor,
        stride: int,
        padding: int,
        max_pool: bool,
    ) -> Tensor:
        ctx.stride, ctx.padding, ctx.max_pool = stride, padding, max_pool
        ctx.height, ctx.width = units_taker.shape[2:]
        result, kept = _forward(images, weight, bias, stride, padding, max_pool)
        ctx.save_for_backward(images, weight, kept)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Not `once_differentiable`, which takes the gradient for a constant where `gradient` is one.
        check_first_derivative("conv_relu")
        images, weight, kept = ctx.saved_tensors
        if ctx.max_pool:
            of_units, sums = _kernels().bias_relu_max_pool_backward(gradient, kept, ctx.height, ctx.width)
        else:
            of_units, sums = _kernels().relu_backward(gradient, kept)
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = images_gradient(of_units, images, weight, ctx.stride, ctx.padding)
        return of_images, None, None, of_units, sums, None, None, None


def _forward(
    images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, max_pool: bool
) -> tuple[Tensor, Tensor]:
    """The result, and what the backward pass has to know of it."""
    if max_pool:
        pooled, winner = _kernels().bias_relu_max_pool(convolve(images, weight, stride, padding), bias)
        return pooled, winner
    units = convolve_relu(images, weight, bias, stride, padding).contiguous(memory_format=LAYOUT)
    return units, units


def _kernels() -> Any:
    return torch.ops.pydyn if EXTENSION.loaded else _REFERENCE


_OPS = ("relu_backward", "bias_relu_max_pool", "bias_relu_max_pool_backward", "sum_rows", "patches")
_REFERENCE = SimpleNamespace(**{name: getattr(reference, name) for name in _OPS})


def _fake_relu_backward(gradient: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gradient, memory_format=LAYOUT), _fake_sums(gradient)


def _fake_max_pool(units: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    shape = (*units.shape[:2], units.shape[2] // 2, units.shape[3] // 2)
    winner = units.new_empty(shape, dtype=torch.uint8)
    return units.new_empty(shape).contiguous(memory_format=LAYOUT), winner.contiguous(memory_format=LAYOUT)


def _fake_max_pool_backward(gradient: Tensor, winner: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    units = gradient.new_empty((*gradient.shape[:2], height, width))
    return units.contiguous(memory_format=LAYOUT), _fake_sums(gradient)


def _fake_sums(gradient: Tensor) -> Tensor:
    shape = (reference.partial_rows(gradient), gradient.shape[1])
    return gradient.new_empty(shape, dtype=torch.promote_types(gradient.dtype, torch.float32))


def _fake_patches(images: Tensor, window: int, stride: int, padding: int, dtype: torch.dtype) -> Tensor:
    channels = -(-images.shape[1] * window**2 // reference.PATCH_CHANNELS) * reference.PATCH_CHANNELS
    height, width = ((size + 2 * padding - window) // stride + 1 for size in images.shape[2:])
    out = images.new_empty((images.shape[0], channels, height, width), dtype=dtype)
    return out.contiguous(memory_format=LAYOUT)


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::sum_rows", lambda rows: rows.new_empty(rows.shape[1]))
    torch.library.register_fake("pydyn::relu_backward", _fake_relu_backward)
    torch.library.register_fake("pydyn::bias_relu_max_pool", _fake_max_pool)
    torch.library.register_fake("pydyn::bias_relu_max_pool_backward", _fake_max_pool_backward)
    torch.library.register_fake("pydyn::patches", _fake_patches)
    for _name in _OPS:
        torch.library.impl(f"pydyn::{_name}", "default", getattr(reference, _name))
