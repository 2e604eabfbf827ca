"""ReLU and max-pooling as one operation, which keeps a byte where torch keeps an index of eight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, has_tangent


def relu_max_pool(images: Tensor) -> Tensor:
    """ReLU, then max-pooling over windows of 2x2 pixels; what `max_pool2d(relu(images), 2)` gives, to the last bit.

    Only the sign of a zero, which torch takes over from the images, is always plus. For a CPU, where torch's own takes about a
    tenth of a small network's training, mostly in the backward pass. Other devices, and installations without the extension,
    run torch's.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W), float16, bfloat16, float32 or float64
        H and W at least 2; an odd last row or column is left out. Channels-last is read as it is, other layouts are copied.

    Returns
    -------
    Tensor of shape (N, C, H // 2, W // 2), images' dtype, channels-last on a CPU
        Where nothing in a window is above 0, its gradient is 0 everywhere.

    Raises
    ------
    ValueError
        If `images` has not 4 dimensions, or is lower or narrower than 2 pixels.
    TypeError
        If `images` is of another dtype.
    """
    if EXTENSION.loaded and images.device.type == "cpu" and not has_tangent(images):
        pooled: Tensor = torch.ops.pydyn.relu_max_pool.default(images)[0]
        return pooled
    return max_pool2d(torch.relu(images), 2)


class ReLUMaxPool(nn.Module):
    """`relu_max_pool` as a layer."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H // 2, W // 2)."""
        return relu_max_pool(images)


def _fake(images: Tensor) -> tuple[Tensor, Tensor]:
    n_images, n_channels, height, width = images.shape
    shape = (n_images, n_channels, height // 2, width // 2)
    return (
        images.new_empty(shape).contiguous(memory_format=torch.channels_last),
        images.new_empty(shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last),
    )


def _fake_backward(gradient: Tensor, winner: Tensor, height: int, width: int) -> Tensor:
    shape = (*gradient.shape[:2], height, width)
    return gradient.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.height, ctx.width = inputs[0].shape[2:]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # of the winners there is none: do not fill one with zeros


def _backward(ctx: Any, gradient: Tensor | None, _: Tensor | None) -> Tensor | None:
    if gradient is None:  # of the pooled images none was asked for
        return None
    (winner,) = ctx.saved_tensors
    result: Tensor = torch.ops.pydyn.relu_max_pool_backward.default(gradient, winner, ctx.height, ctx.width)
    return result


def _setup_context_twice(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward_twice(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    # Linear in the gradient: back to a window goes what arrives at its winner.
    (winner,) = ctx.saved_tensors
    rows, columns = winner.shape[2:]
    result = torch.zeros_like(winner, dtype=gradient.dtype)
    for position in range(reference.NONE):
        down, right = divmod(position, 2)
        result = torch.where(winner == position, gradient[:, :, down : 2 * rows : 2, right : 2 * columns : 2], result)
    return result, None, None, None


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::relu_max_pool", _fake)
    torch.library.register_fake("pydyn::relu_max_pool_backward", _fake_backward)
    torch.library.register_autograd("pydyn::relu_max_pool", _backward, setup_context=_setup_context)
    torch.library.register_autograd(
        "pydyn::relu_max_pool_backward", _backward_twice, setup_context=_setup_context_twice
    )
    torch.library.impl("pydyn::relu_max_pool", "default", reference.relu_max_pool)
    torch.library.impl("pydyn::relu_max_pool_backward", "default", reference.relu_max_pool_backward)
