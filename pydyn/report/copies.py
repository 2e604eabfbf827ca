"""Images of a store that are the same as others: on both sides of a division they flatter whatever is trained."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from pydyn.data.store import ImageStore

BLOCK_BYTES = 2**24
# Of generated figures nobody can remove any, and torchvision's sets are as published.
OF_FILES = ("folder", "archive")


@dataclass(frozen=True)
class Copies:
    """Images that are, pixel by pixel, as others before them in the store."""

    count: int
    first: tuple[str, str]
    """One that was there before, and the first copy."""
    in_test: int
    """Test images of which training or validation images are copies, or the other way about."""
    of_other_class: int
    """Copies of an image of another class."""


def find_copies(store: ImageStore) -> Copies | None:
    """Those among the images that came as files, as they are stored; None if there are none."""
    if store.declaration.get("source") not in OF_FILES:
        return None
    same_as = np.arange(store.n_images)
    first_of: dict[bytes, int] = {}
    step = max(1, BLOCK_BYTES // int(np.prod(store.image_shape)))
    for start in range(0, store.n_images, step):
        rows = np.arange(start, min(start + step, store.n_images))
        for row, image in zip(rows.tolist(), store.images(rows), strict=True):
            same_as[row] = first_of.setdefault(blake2b(image.data, digest_size=16).digest(), row)
    copies = np.flatnonzero(same_as != np.arange(store.n_images))
    if not len(copies):
        return None
    test, others = store.indices("test"), store.indices("train", "validation")
    named = store.sources(np.array([same_as[copies[0]], copies[0]]))
    return Copies(
        count=len(copies),
        first=(named[0], named[1]),
        in_test=int(np.isin(same_as[test], same_as[others]).sum()),
        of_other_class=int((store.labels[copies] != store.labels[same_as[copies]]).sum()),
    )
