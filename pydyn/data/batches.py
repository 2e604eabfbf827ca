"""Images that live on the device as bytes, and batches of any of them by index."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pydyn import ops
from pydyn.data.store import ImageStore

# Pixels of black around an image before it is cropped: the field's habit for CIFAR; the papers name no recipe.
CROP_PADDING = 4

Augmentation = Literal["crop-flip", "rotate-shift-flip"]
AUGMENTATIONS: dict[Augmentation, dict[str, Any]] = {
    "crop-flip": {"crop_padding": CROP_PADDING, "flip": True},
    # Keras's ImageDataGenerator(15, 0.1, 0.1, horizontal_flip=True): what comes into the image repeats its edge.
    "rotate-shift-flip": {"rotation": 15.0, "shift": 0.1, "flip": True, "padding_mode": "edge"},
}


class ResidentImages:
    """All images of a store on one device, uint8; a batch is gathered and normalised when it is asked for.

    Compared with a DataLoader nothing is decoded, copied between processes or sent to the device during training.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take what is already on the device.

        Args:
            images: (N, H, W, C) uint8, contiguous.
            labels: (N,) int64.
            mean: of each channel, in units of 0..1.
            std: of each channel, in units of 0..1, above 0.
            dtype: of batches.
        """
        self.shape = tuple(images.shape[1:])
        self.labels = labels
        self._images = images
        self._mean = tuple(mean)
        self._std = tuple(std)
        self._dtype = dtype

    @classmethod
    def from_store(cls, store: ImageStore, device: torch.device) -> Self:
        """Bring a whole store to a device."""
        std = np.maximum(store.std, 1 / 255)  # a channel without contrast stays without, instead of becoming NaN
        return cls(
            torch.from_numpy(store.images()).to(device),
            torch.from_numpy(np.ascontiguousarray(store.labels)).to(device),
            store.mean.tolist(),
            std.tolist(),
        )

    def scaled(self, scaling: Literal["standard", "unit"], dtype: torch.dtype = torch.float32) -> Self:
        """The same images, not copied, with mean 0 and standard deviation 1 by channel, or simply in 0..1; batches of `dtype`."""
        mean, std = self._mean, self._std
        if scaling == "unit":
            mean, std = (0.0,) * self.shape[2], (1.0,) * self.shape[2]
        return type(self)(self._images, self.labels, mean, std, dtype)

    @property
    def device(self) -> torch.device:
        """Where images and batches are."""
        return self._images.device

    def indices(self, indices: NDArray[np.int64]) -> Tensor:
        """Indices as a tensor on the images' device."""
        return torch.from_numpy(indices).to(self.device)

    def batch(self, index: Tensor) -> Tensor:
        """Gather and normalise images.

        Args:
            index: (B,) int64 on the images' device, each in 0..N-1; their labels are `labels[index]`.

        Returns:
            (B, C, H, W), channels-last, scaled.
        """
        return ops.gather_images(self._images, index, self._mean, self._std, dtype=self._dtype)

    def augmented_batch(self, index: Tensor, augmentation: Augmentation, seed: int, epoch: int | Tensor) -> Tensor:
        """Gather images, each changed at random, and normalise them.

        Args:
            index: as for `batch`.
            augmentation: what is done to images; see `AUGMENTATIONS`.
            seed: with the epoch and an image's index it decides what that image gets, whatever the batch.
            epoch: any number that is another one in each epoch; a CUDA graph takes it from an int64 tensor of one element.

        Returns:
            As `batch`.
        """
        options = AUGMENTATIONS[augmentation]
        return ops.gather_images(
            self._images, index, self._mean, self._std, seed=seed, epoch=epoch, dtype=self._dtype, **options
        )
