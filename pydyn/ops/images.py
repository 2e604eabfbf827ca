"""Gather of images: a normalised, augmented batch out of a pool of bytes, in one pass."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, warn_reference

PaddingMode = Literal["zeros", "reflect", "edge"]


def gather_images(
    images: Tensor,
    index: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    crop_padding: int = 0,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    rotation: float = 0.0,
    shift: float = 0.0,
    seed: int = 0,
    epoch: int | Tensor = 0,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.channels_last,
) -> Tensor:
    """Gather images of a pool, augment and normalise them: `out[i] = (augment(images[index[i]]) / 255 - mean) / std`.

    An image is rotated about its centre, shifted, padded and cropped back at a random place, and mirrored, as far as asked
    for. What it gets depends on (seed, epoch, row in the pool) alone: not on the batch, the order, the number of threads or
    the device. The CPU, CUDA and the torch reference give the same bits in float32 as in half precision: random numbers
    come from Philox4x32-10, places and bilinear weights are integers, and the normalisation rounds the same way everywhere.

    Runs on all CPU threads that torch may use, or on the current CUDA stream; torch.compile takes it in without a graph
    break. It has no gradient: bytes have none.

    Parameters
    ----------
    images : uint8 Tensor of shape (N, H, W, C), contiguous, C of 1 to 4
        The pool.
    index : int64 Tensor of shape (B,), on the same device
        Images to gather, each in [0, N); any stride, repeats allowed. Repeats of one image are augmented alike.
    mean, std : sequences of C floats
        Of each channel, in units of pixels from 0 to 1; `std` above 0.
    crop_padding : int, at least 0
        Pixels of padding on each side before the crop: the image moves by as many at most, each distance as likely.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies outside an image: black (before normalisation), the image mirrored at its outermost pixels without
        repeating them, or its outermost pixels. Also for rotation and shift.
    flip : bool
        Mirror left to right with probability 1/2.
    rotation : float, 0 to 180
        Largest angle in degrees; uniform in both directions, bilinear, with weights in steps of 1/256.
    shift : float, 0 to 1
        Largest move in both directions as a share of height and width; uniform, in fractions of pixels, bilinear.
    seed : int, 0 to 2**63 - 1
        Of the augmentation.
    epoch : int, 0 to 2**32 - 1, or an int64 Tensor of one element on the same device
        Another epoch, another augmentation. A captured CUDA graph replays an int as it was; a tensor may change.
    dtype : torch.float32, torch.bfloat16 or torch.float16
        Of the batch. Computed in float32, rounded to the nearest, ties to even.
    memory_format : torch.channels_last or torch.contiguous_format
        Of the batch.

    Returns
    -------
    Tensor of shape (B, C, H, W)

    Raises
    ------
    ValueError
        If a shape, a range or a device is wrong, or `images` is not contiguous; the message names the argument.
    TypeError
        If a dtype is wrong.
    IndexError
        If an index is out of range, as in `gather_rows`.
    """
    if not isinstance(epoch, Tensor) and not 0 <= epoch < 2**32:
        raise ValueError(f"gather_images: epoch = {epoch} is not in 0 to 2**32 - 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"gather_images: seed = {seed} is not in 0 to 2**63 - 1")
    if memory_format not in (torch.channels_last, torch.contiguous_format):
        raise ValueError(f"gather_images: memory_format = {memory_format} is neither channels_last nor contiguous")
    op = reference.gather_images
    if EXTENSION.loaded:
        op = torch.ops.pydyn.gather_images.default
    else:
        warn_reference()
    batch: Tensor = op(
        images,
        index,
        [float(value) for value in mean],
        [float(value) for value in std],
        crop_padding,
        padding_mode,
        flip,
        rotation,
        shift,
        seed,
        0 if isinstance(epoch, Tensor) else epoch,
        epoch if isinstance(epoch, Tensor) else None,
        dtype,
        memory_format == torch.channels_last,
    )
    return batch


def _fake(images: Tensor, index: Tensor, *arguments: Any) -> Tensor:
    *_, dtype, channels_last = arguments
    _, height, width, channels = images.shape
    if channels_last:
        return images.new_empty((index.shape[0], height, width, channels), dtype=dtype).permute(0, 3, 1, 2)
    return images.new_empty((index.shape[0], channels, height, width), dtype=dtype)


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::gather_images", _fake)
    torch.library.impl("pydyn::gather_images", "default", reference.gather_images)
