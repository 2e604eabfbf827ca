"""What the paths inside a data set say: which are images, of which class, in which given part.

Runs while a workflow is planned: opens no image, imports nothing slow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import splitext

import numpy as np
from numpy.typing import NDArray

from pydyn.errors import DataError

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNGIVEN = -1

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"))
GIVEN_FOLDERS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
# Of each class, training and validation need an image (or a group of images) when the test images are set apart.
LEFT_BY_TEST = 2
SHOWN = 10


@dataclass(frozen=True)
class Listing:
    """The N images that a source offers, in the order in which it reads them."""

    class_names: tuple[str, ...]
    paths: list[str]
    """What each image is called inside the data set."""
    labels: NDArray[np.int64]
    """(N,), each in 0 to n_classes - 1."""
    parts: NDArray[np.int8]
    """(N,), TRAIN, VALIDATION or TEST; all UNGIVEN if the source is not divided."""


@dataclass(frozen=True)
class Arrangement:
    """A listing read off paths, and where its images and its top folder are among these paths."""

    listing: Listing
    positions: NDArray[np.int64]
    """(N,): listing.paths[i] is the file at positions[i]."""
    top: PurePosixPath
    """The enclosing folder that paths in the listing are relative to; `.` if none."""


def share_count(n_images: int, share: float, n_classes: int, leave: int) -> int:
    """How many of `n_images` a share stands for: rounded, one of each class at least, `leave` of each class left over."""
    return max(n_classes, min(n_images - leave * n_classes, round(n_images * share)))


def some(names: Collection[str]) -> str:
    """The first names and how many more there are, for a message."""
    shown = ", ".join(repr(name) for name in list(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def arrange(
    where: str, files: Sequence[str], folders: Iterable[str], *, given: bool, strip_top: bool = False
) -> Arrangement:
    """Read classes and given parts off the paths of all files and folders, written relative with `/`.

    With `given`, images are `PART/CLASS/.../NAME`, else `CLASS/.../NAME`. Files beside the class folders, in other parts
    than train, val, validation and test, hidden ones and those without an image suffix are not images. `strip_top` takes
    one folder that encloses everything off all paths. Classes are sorted by name.

    Raises DataError, which begins with `where`, if there are no images, fewer than two classes, a class without images,
    class names that differ by case only, or, with `given`, no train or no test folder.
    """
    # Plain string splitting: pathlib would take most of a planning's time on tens of thousands of files.
    images = [(position, tuple(path.split("/"))) for position, path in enumerate(files) if _is_image(path)]
    if not images:
        raise DataError(f"{where}: holds no images; image files end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    top = _enclosing([parts for _, parts in images], given) if strip_top else ()
    found = [
        (position, place, "/".join(parts[len(top) :]))
        for position, parts in images
        if (place := _place(parts, top, given)) is not None
    ]
    if given:
        _require_parts(where, {part for _, (part, _), _ in found})
    # A class folder is where a file would be of that class.
    in_folders = (_place((*folder.split("/"), "file"), top, given) for folder in folders)
    class_names = _class_names(
        where, {place for _, place, _ in found}, {place for place in in_folders if place is not None}
    )
    label_of = {name: label for label, name in enumerate(class_names)}
    listing = Listing(
        class_names=class_names,
        paths=[path for _, _, path in found],
        labels=np.array([label_of[name] for _, (_, name), _ in found], dtype=np.int64),
        parts=np.array([part for _, (part, _), _ in found], dtype=np.int8),
    )
    positions = np.array([position for position, _, _ in found], dtype=np.int64)
    return Arrangement(listing, positions, PurePosixPath(*top))


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _is_image(path: str) -> bool:
    return splitext(path)[1].lower() in IMAGE_SUFFIXES and not any(map(_is_hidden, path.split("/")))


def _enclosing(images: Sequence[tuple[str, ...]], given: bool) -> tuple[str, ...]:
    """The one folder, as a path of one part, that all images in folders lie in above their class folders; else ()."""
    nested = [parts for parts in images if len(parts) > 1]
    tops = {parts[0] for parts in nested}
    if len(tops) != 1 or max(map(len, nested)) < 3 + given:
        return ()
    (top,) = tops
    return () if given and top.lower() in GIVEN_FOLDERS else (top,)


def _place(parts: tuple[str, ...], top: tuple[str, ...], given: bool) -> tuple[int, str] | None:
    """Part and class of a file; None if it lies in no class folder."""
    local = parts[len(top) :]
    if parts[: len(top)] != top or len(local) < 2 + given or any(map(_is_hidden, local[: 1 + given])):
        return None
    if not given:
        return UNGIVEN, local[0]
    part = GIVEN_FOLDERS.get(local[0].lower())
    return None if part is None else (part, local[1])


def _require_parts(where: str, parts: set[int]) -> None:
    for part in (TRAIN, TEST):
        if part not in parts:
            raise DataError(
                f"{where}: has no images in {PARTS[part]}/CLASS/, which `split.method: given` needs; make the folder, "
                "or let `split.method` be stratified or group"
            )


def _class_names(where: str, with_images: set[tuple[int, str]], folders: set[tuple[int, str]]) -> tuple[str, ...]:
    empty = sorted(f"{PARTS[part]}/{name}" if part != UNGIVEN else name for part, name in folders - with_images)
    if empty:
        raise DataError(
            f"{where}: no images in class folder {some(empty)}; add images or remove the folder (image files end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; links to folders are not followed)"
        )
    names = sorted({name for _, name in with_images})
    if len(names) < 2:
        raise DataError(
            f"{where}: has {len(names)} class folders with images ({some(names) or 'none'}); a classifier needs at "
            "least two"
        )
    by_case: dict[str, str] = {}
    for name in names:
        if (other := by_case.setdefault(name.casefold(), name)) != name:
            raise DataError(f"{where}: class folders {other!r} and {name!r} differ by case only; rename one")
    return tuple(names)
