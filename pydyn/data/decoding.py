"""Encoded images to arrays of one form: decoded in parallel, given back in order, memory bounded."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Payload = bytes | Path | Image.Image
"""An encoded image, a file of one, or an image that is decoded already."""

Outcome = NDArray[np.uint8] | str
"""An image (H, W, C), or the reason why there is none."""

GREY_MODES = frozenset(("1", "L", "LA", "La"))
# Enough images to make handing them to a thread worthwhile, few enough that what waits stays small.
MAX_TASK_IMAGES = 32
TASK_BYTES = 2**20


def decode_all(
    payloads: Iterable[Payload],
    size: tuple[int, int] | None,
    channels: int | None,
    n_threads: int = 2,
    made_grey: list[str] | None = None,
) -> Iterator[Outcome]:
    """Decode images in order, `n_threads` at a time; each is resized to `size` (height, width) if that is given.

    `channels` is 1 or 3; None takes what the first readable image has. Other images are converted; to `made_grey` goes the mode
    of each whose colours are lost by that. Pillow's limit on pixels holds: an image beyond it counts as unreadable.
    """
    payloads = iter(payloads)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # That transparency is lost, which is so here for all images.
        warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)
        for payload in payloads:
            first = _try_decode(payload, size, channels, made_grey)
            yield first
            if not isinstance(first, str):
                break
        else:
            return
        n_images = max(1, min(MAX_TASK_IMAGES, TASK_BYTES // first.nbytes))
        yield from _in_parallel(payloads, size, first.shape[2], n_images, n_threads, made_grey)


def decode(
    payload: Payload, size: tuple[int, int] | None, channels: int | None, made_grey: list[str] | None = None
) -> NDArray[np.uint8]:
    """Decode one image (the first frame of several) to (H, W, C).

    The EXIF orientation is applied, 16 bits are scaled to 8, transparency is dropped, resizing is bicubic with
    anti-aliasing and does not keep the aspect ratio. Raises whatever Pillow does if the image cannot be decoded.
    """
    with _opened(payload) as image:
        upright = _eight_bits(ImageOps.exif_transpose(image))
        if channels is None:
            channels = 1 if upright.mode in GREY_MODES else 3
        if made_grey is not None and channels == 1 and _has_colours(upright):
            made_grey.append(upright.mode)
        converted = upright.convert("L" if channels == 1 else "RGB")
        if size is not None and converted.size != size[::-1]:
            converted = converted.resize(size[::-1], Image.Resampling.BICUBIC)
        pixels = np.asarray(converted, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def _in_parallel(
    payloads: Iterator[Payload],
    size: tuple[int, int] | None,
    channels: int,
    n_images: int,
    n_threads: int,
    made_grey: list[str] | None,
) -> Iterator[Outcome]:
    def task(batch: list[Payload]) -> list[Outcome]:
        return [_try_decode(payload, size, channels, made_grey) for payload in batch]

    waiting: deque[Future[list[Outcome]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        while batch := list(islice(payloads, n_images)):
            waiting.append(pool.submit(task, batch))
            if len(waiting) > 2 * n_threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _try_decode(
    payload: Payload, size: tuple[int, int] | None, channels: int | None, made_grey: list[str] | None
) -> Outcome:
    try:
        return decode(payload, size, channels, made_grey)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # whose own text names an address in memory
        return "no image of a format that can be read"
    # Pillow's decoders raise almost anything on spoilt bytes.
    except Exception as error:
        return str(error) or type(error).__name__


def _opened(payload: Payload) -> Image.Image:
    if isinstance(payload, Image.Image):
        return payload
    return Image.open(BytesIO(payload) if isinstance(payload, bytes) else payload, formats=_formats())


@cache
def _formats() -> list[str]:
    """All that Pillow reads but PostScript, whatever a file is called: that goes to a program (Ghostscript), and is one."""
    Image.preinit()  # what is common is tried first
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def _has_colours(image: Image.Image) -> bool:
    """Whether any pixel is not grey; many a grey image is saved as one in colour."""
    if image.mode in GREY_MODES:
        return False
    red, green, blue = (band.tobytes() for band in image.convert("RGB").split())
    return not red == green == blue


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion would clip it."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixels beyond 16 bits have no agreed range; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
