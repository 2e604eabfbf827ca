"""Which images belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydyn.config.datasets import Group
from pydyn.data.listing import Listing
from pydyn.data.manifest import told
from pydyn.errors import DataError

NO_GROUP = -1


@dataclass(frozen=True)
class Groups:
    """The group of each of N images."""

    ids: NDArray[np.int32]
    """(N,), positions in `names`; NO_GROUP where images stand alone."""
    names: tuple[str, ...]


def no_groups(n_images: int) -> Groups:
    """Every image stands alone."""
    return Groups(np.full(n_images, NO_GROUP, dtype=np.int32), ())


def find_groups(where: str, listing: Listing, group: Group, manifest: bytes | None) -> Groups:
    """Group the images of a listing; `manifest` holds the bytes of `group.manifest`, None if there is no such file.

    Raises DataError or ConfigError, which begin with `where`, if an image is in no group.
    """
    names = told(where, "split.group", listing.paths, group, manifest)
    if group.block is not None:
        names = _blocks(where, listing, group, names, group.block)
    ordered = sorted(set(names))
    id_of = {name: position for position, name in enumerate(ordered)}
    return Groups(np.array([id_of[name] for name in names], dtype=np.int32), tuple(ordered))


def _blocks(where: str, listing: Listing, group: Group, values: list[str], block: int) -> list[str]:
    """The block of neighbouring numbers of its class that each image is in."""
    names = []
    for path, label, value in zip(listing.paths, listing.labels.tolist(), values, strict=True):
        try:
            names.append(f"{listing.class_names[label]}/{int(value) // block}")
        except ValueError:
            raise DataError(
                f"{where}: {group.manifest} gives {value!r} as {group.column!r} of {path!r}; `split.group.block` needs "
                "whole numbers"
            ) from None
    return names
