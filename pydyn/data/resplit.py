"""Other divisions of the images that a store already holds: one for each replicate, by groups or image by image."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pydyn.config.datasets import Limit, Split
from pydyn.data.groups import Groups, no_groups
from pydyn.data.listing import GIVEN_FOLDERS, PARTS, TEST, TRAIN, UNGIVEN, VALIDATION, Listing
from pydyn.data.splits import divide
from pydyn.data.store import ImageStore

SplitKind = Literal["declared", "image"]


def resplit(store: ImageStore, kind: SplitKind, seed: int) -> NDArray[np.uint8]:
    """Divide a store's images anew, as its data set declares, but by another draw.

    Args:
        store: of images; what its declaration's limits left out stays out.
        kind: `declared`: as the data set says; `image`: image by image, whatever groups there are, with the declared shares.
        seed: of the draw, from 0, which for `declared` and without limits is the store's own division. Test and validation
            parts that came with the images stay as they are; a validation part that did not is drawn from the others.

    Returns:
        (N,), the part of each image: positions in `PARTS`.

    Raises DataError if some part would lack a class.
    """
    split = Split.model_validate(store.declaration["split"])
    given = split.method == "given"
    sources = store.sources()
    changes: dict[str, object] = {"seed": split.seed + seed}
    groups = Groups(store.group, store.group_names)
    if kind == "image" and not given:
        changes |= {"method": "stratified", "group": None}
        groups = no_groups(store.n_images)
    parts = np.full(store.n_images, UNGIVEN, np.int8)
    if given:
        parts[:] = np.where(store.split == PARTS.index("test"), TEST, TRAIN)
        # Who keeps validation images in a folder of their own may have kept patients apart.
        parts[[GIVEN_FOLDERS.get(source.partition("/")[0].lower()) == VALIDATION for source in sources]] = VALIDATION
    listing = Listing(store.class_names, sources, store.labels, parts)
    wanted = split.model_copy(update=changes)
    return divide(f"data set {store.name!r}, seed {seed}", listing, groups, wanted, Limit(), redrawn=seed > 0).parts
