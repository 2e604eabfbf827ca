"""Images of a store as a backbone wants them: read when asked for, resized, normalised."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pydyn import ops
from pydyn.data.batches import CROP_PADDING
from pydyn.data.store import ImageStore
from pydyn.models.backbones import Preprocessing

# A crop moves an image by as large a part of it as 4 pixels are of CIFAR's.
CROP_SHARE = CROP_PADDING / 32


def resized(images: NDArray[np.uint8], preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Images (B, H, W, C) uint8, C 1 or 3, as (B, size, size, 3) uint8 on a device, contiguous."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    pixels = torch.from_numpy(images).to(device)
    size = preprocessing.size
    if pixels.shape[1:3] != (size, size):
        planes = pixels.permute(0, 3, 1, 2)
        mode = InterpolationMode(preprocessing.interpolation)
        pixels = transforms.resize(planes, [size, size], mode, antialias=True).permute(0, 2, 3, 1)
    return pixels.expand(-1, -1, -1, 3).contiguous()


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Bytes (B, size, size, 3) as (B, 3, size, size), float32, channels-last."""
    rows = torch.arange(len(pixels), device=pixels.device)
    return ops.gather_images(pixels, rows, preprocessing.mean, preprocessing.std)


class BackboneInputs:
    """A store's images for a backbone. Only what a batch needs is in memory."""

    def __init__(self, store: ImageStore, preprocessing: Preprocessing, device: torch.device) -> None:
        self.device = device
        self._store = store
        self._preprocessing = preprocessing

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """The images at rows of the store, (B,): (B, 3, size, size), float32, channels-last, normalised."""
        return normalised(self._read(rows), self._preprocessing)

    def batches(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[Tensor]:
        """All of some rows in their order; the last batch may be smaller."""
        for start in range(0, len(rows), batch_size):
            yield self.batch(rows[start : start + batch_size])

    def augmented_batch(self, rows: NDArray[np.int64], seed: int) -> Tensor:
        """As `batch`, each image moved by up to an eighth of its size over black, and mirrored at random, as the seed says."""
        preprocessing = self._preprocessing
        pixels = self._read(rows)
        return ops.gather_images(
            pixels,
            torch.arange(len(rows), device=pixels.device),
            preprocessing.mean,
            preprocessing.std,
            crop_padding=round(CROP_SHARE * preprocessing.size),
            flip=True,
            seed=seed,
        )

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        return resized(self._store.images(rows), self._preprocessing, self.device)
