"""Gather of images in plain torch, with the random numbers of the kernels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pydyn.ops.reference.checks import check_device, check_pool, check_range


def gather_images(
    images: Tensor,
    index: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    crop_padding: int = 0,
    padding_mode: str = "zeros",
    flip: bool = False,
    rotation: float = 0.0,
    shift: float = 0.0,
    seed: int = 0,
    epoch: int = 0,
    epoch_tensor: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> Tensor:
    """Gather, augment and normalise images. Shapes, dtypes and errors are those of `pydyn.ops.gather_images`.

    The steps are those of csrc/augment.h, on whole tensors: an output pixel is traced back to where it comes from.
    """
    _check_gather_images(images, index, mean, std, crop_padding, padding_mode, rotation, shift, dtype)
    if epoch_tensor is not None:
        check_device("gather_images", "images", images, "epoch", epoch_tensor)
        if epoch_tensor.dtype != torch.int64:
            raise TypeError(f"gather_images: epoch must be int64, got {epoch_tensor.dtype}")
        if epoch_tensor.numel() != 1:
            raise ValueError(f"gather_images: epoch must be one number, got shape {list(epoch_tensor.shape)}")
    height, width = images.shape[1:3]
    device = images.device
    offset = torch.tensor(mean, dtype=torch.float32, device=device) * 255
    scale = 1 / (torch.tensor(std, dtype=torch.float32, device=device) * 255)

    counter = torch.full_like(index, epoch) if epoch_tensor is None else epoch_tensor.reshape(1).expand_as(index)
    dy = dx = torch.zeros_like(index)
    flipped = torch.zeros_like(index, dtype=torch.bool)
    if crop_padding or flip:
        words = philox(seed, index, counter, 0)
        dy = (words[0] * (2 * crop_padding + 1) >> 32) - crop_padding
        dx = (words[1] * (2 * crop_padding + 1) >> 32) - crop_padding
        flipped = (words[2] >> 31 == 1) & flip
    y = torch.arange(height, device=device) + dy[:, None]
    column = torch.arange(width, device=device)
    x = torch.where(flipped[:, None], width - 1 - column, column) + dx[:, None]
    y, x = y[:, :, None], x[:, None, :]

    # Negative ones do not count from the end.
    sample = torch.where(index < 0, len(images), index)[:, None, None]
    if rotation or shift:
        source_y, source_x = _warp(y, x, height, width, rotation, shift, philox(seed, index, counter, 1))
        below, right = source_y >> 8 & 255, source_x >> 8 & 255
        values = torch.zeros((), dtype=torch.int64, device=device)
        for tap_y, weight_y in ((source_y >> 16, 256 - below), ((source_y >> 16) + 1, below)):
            for tap_x, weight_x in ((source_x >> 16, 256 - right), ((source_x >> 16) + 1, right)):
                values = values + _pixels(images, sample, tap_y, tap_x, padding_mode) * (weight_y * weight_x)[..., None]
        pixels = values.float() * 2**-16
    else:
        pixels = _pixels(images, sample, y, x, padding_mode).float()
    batch = ((pixels - offset) * scale).to(dtype).permute(0, 3, 1, 2)
    return batch if channels_last else batch.contiguous()


def _pixels(images: Tensor, sample: Tensor, y: Tensor, x: Tensor, padding_mode: str) -> Tensor:
    """Pixels (B, H, W, C) int64 at integer coordinates that may lie outside."""
    height, width = images.shape[1:3]
    pixels = images[sample, _inside(y, height, padding_mode), _inside(x, width, padding_mode)].long()
    if padding_mode == "zeros":
        pixels = pixels * ((y >= 0) & (y < height) & (x >= 0) & (x < width))[..., None]
    return pixels


def _inside(at: Tensor, size: int, padding_mode: str) -> Tensor:
    if padding_mode != "reflect" or size == 1:
        return at.clamp(0, size - 1)
    phase = at.remainder(2 * (size - 1))
    return torch.where(phase < size, phase, 2 * (size - 1) - phase)


def _warp(
    y: Tensor, x: Tensor, height: int, width: int, rotation: float, shift: float, words: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Rotate and shift pixel coordinates backwards: fixed-point coordinates with 16 fractional bits."""
    angle_range, shift_range = torch.tensor([rotation * (math.pi / 180), shift], dtype=torch.float32).double().tolist()
    symmetric = [(word >> 8).double() * 2**-23 - 1 for word in words]
    cosine, sine = _cosine_and_sine(symmetric[0] * angle_range)
    shift_y = ((symmetric[1] * shift_range).float().double() * (height * 65536)).round().long()[:, None, None]
    shift_x = ((symmetric[2] * shift_range).float().double() * (width * 65536)).round().long()[:, None, None]
    centre_y, centre_x = (height - 1) * 32768, (width - 1) * 32768
    v_y = y * 65536 - centre_y - shift_y
    v_x = x * 65536 - centre_x - shift_x
    return (
        (cosine * v_y - sine * v_x + 32768 >> 16) + centre_y,
        (sine * v_y + cosine * v_x + 32768 >> 16) + centre_x,
    )


def _cosine_and_sine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B,) float64 angles, fixed-point (B, 1, 1): by the series of csrc/augment.h, since libraries differ in last bits."""
    square = angle * angle
    cosine = cosine_term = torch.ones_like(angle)
    sine = sine_term = angle
    for k in range(2, 27, 2):
        cosine_term = -(cosine_term * square) / ((k - 1) * k)
        sine_term = -(sine_term * square) / (k * (k + 1))
        cosine = cosine + cosine_term
        sine = sine + sine_term
    return ((cosine * 65536).round().long()[:, None, None], (sine * 65536).round().long()[:, None, None])


def philox(seed: int, sample: Tensor, epoch: Tensor, block: int) -> list[Tensor]:
    """Philox4x32-10 (Salmon et al., SC 2011): four words, int64 in [0, 2**32), for each sample.

    The key is `seed`, the counter (sample's low and high half, epoch, block); shapes of `sample` and `epoch` are equal.
    """
    mask = 0xFFFFFFFF
    c0, c1, c2 = sample & mask, sample >> 32 & mask, epoch & mask
    c3 = torch.full_like(sample, block)
    k0, k1 = seed & mask, seed >> 32 & mask
    for _ in range(10):
        # Products of 64 bits wrap around in int64; their bits are the same.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32 & mask) ^ c1 ^ k0, p1 & mask, (p0 >> 32 & mask) ^ c3 ^ k1, p0 & mask
        k0, k1 = k0 + 0x9E3779B9 & mask, k1 + 0xBB67AE85 & mask
    return [c0, c1, c2, c3]


def _check_gather_images(
    images: Tensor,
    index: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    crop_padding: int,
    padding_mode: str,
    rotation: float,
    shift: float,
    dtype: torch.dtype,
) -> None:
    op = "gather_images"
    if images.dtype != torch.uint8:
        raise TypeError(f"{op}: images must be uint8, got {images.dtype}")
    if images.dim() != 4 or not 1 <= images.shape[3] <= 4:
        raise ValueError(f"{op}: images must have shape (N, H, W, C) with C of 1 to 4, got {list(images.shape)}")
    check_pool(op, "images", images, index)
    n_images, height, width, channels = images.shape
    if n_images == 0 and index.shape[0] > 0:
        raise IndexError(f"{op}: index has {index.shape[0]} elements, but there are no images")
    check_range(op, index, n_images, f"there are {n_images} images")
    largest = 2**20
    if not (1 <= height <= largest and 1 <= width <= largest):
        raise ValueError(f"{op}: images must have sides of 1 to {largest} pixels, got shape {list(images.shape)}")
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"{op}: mean has {len(mean)} and std {len(std)} values, but images have {channels} channels")
    for channel, value in enumerate(std):
        if not value > 0:
            raise ValueError(f"{op}: std[{channel}] = {value} is not above 0")
    for name, value, most, unit in (
        ("crop_padding", crop_padding, largest, ""),
        ("rotation", rotation, 180, " degrees"),
        ("shift", shift, 1, ""),
    ):
        if not 0 <= value <= most:
            raise ValueError(f"{op}: {name} = {value} is not in 0 to {most}{unit}")
    if padding_mode not in ("zeros", "reflect", "edge"):
        raise ValueError(f"{op}: padding_mode = '{padding_mode}' is none of zeros, reflect, edge")
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"{op}: dtype = {dtype} is none of float32, bfloat16, float16")
