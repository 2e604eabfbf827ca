"""Images that are the same as others: on both sides of a division they flatter whatever is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pydyn.data.listing import TEST
from pydyn.data.store import ImageStore

BLOCK_BYTES = 2**24
# Of generated figures nobody can remove any, and torchvision's sets are as published.
OF_FILES = ("folder", "archive")


@dataclass(frozen=True)
class Copies:
    """Images that are, pixel by pixel, as others before them. A pair names one that was there before, and the copy."""

    count: int
    first: tuple[str, str]
    in_test: int
    """Test images of which training or validation images are copies, or the other way about."""
    of_other_class: int
    """Copies of an image of another class."""
    first_of_other_class: tuple[str, str] | None
    """The first of these copies; None without any."""


class Seen:
    """Finds copies among images that come one after the other."""

    def __init__(self) -> None:
        self._first_of: dict[bytes, int] = {}
        self._same_as: list[int] = []

    def add(self, images: NDArray[np.uint8]) -> None:
        """Take the next images, (n, H, W, C), contiguous."""
        for row, image in enumerate(images, len(self._same_as)):
            self._same_as.append(self._first_of.setdefault(blake2b(image.data, digest_size=16).digest(), row))

    def copies(self, labels: NDArray[np.int64], parts: NDArray[np.uint8], name: Callable[[int], str]) -> Copies | None:
        """Those among all that came, of which these are classes (n,), parts (n,) and, by row, names; None if there are none."""
        same_as = np.array(self._same_as, dtype=np.int64)
        copies = np.flatnonzero(same_as != np.arange(len(same_as)))
        if not len(copies):
            return None
        others = copies[labels[copies] != labels[same_as[copies]]]
        is_test = parts == TEST

        def pair(copy: int) -> tuple[str, str]:
            return name(int(same_as[copy])), name(int(copy))

        return Copies(
            count=len(copies),
            first=pair(copies[0]),
            in_test=int(np.isin(same_as[is_test], same_as[~is_test]).sum()),
            of_other_class=len(others),
            first_of_other_class=pair(others[0]) if len(others) else None,
        )


def find_copies(store: ImageStore) -> Copies | None:
    """Those among a store's images that came as files, as they are stored; None if there are none."""
    if store.declaration.get("source") not in OF_FILES:
        return None
    seen = Seen()
    step = max(1, BLOCK_BYTES // int(np.prod(store.image_shape)))
    for start in range(0, store.n_images, step):
        seen.add(store.images(np.arange(start, min(start + step, store.n_images))))
    return seen.copies(store.labels, store.split, lambda row: store.sources(np.array([row]))[0])
