"""What the paths inside a data set say: which are images, of which class, in which given part.

Runs while a workflow is planned: opens no image, imports nothing slow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import splitext
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from pydyn.errors import DataError

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNGIVEN = -1

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"))
SYSTEMS_FILES = frozenset(("thumbs.db", "desktop.ini"))
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
    aside: tuple[str, ...] = ()
    """Files that are no images of the data set but may have been meant: of another suffix, or in no class folder or part."""


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


def one_form(name: str) -> str:
    """A name as it reads, however its accents are coded: a Mac codes them apart, and packs them so."""
    return normalize("NFC", name)


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
    images = _images(where, files)
    top = _enclosing([parts for _, parts in images], 3 + given, given) if strip_top else ()
    found = _found(where, images, top, given, n_class_folders=1)
    # A class folder is where a file would be of that class.
    in_folders = (_place((*folder.split("/"), "file"), top, given, 1) for folder in folders)
    _refuse_empty(where, {place for _, place, _ in found}, {place for place in in_folders if place is not None})
    taken = {position for position, _, _ in found}
    aside = [
        path
        for position, path in enumerate(files)
        if position not in taken and (is_image(path) or _is_in_class(path, top, given))
    ]
    return _arrangement(where, found, [one_form(name) for _, (_, name), _ in found], top, aside, "class folders")


def arrange_labelled(
    where: str,
    files: Sequence[str],
    labels_of: Callable[[PurePosixPath, list[str]], list[str]],
    *,
    given: bool,
    strip_top: bool = False,
) -> Arrangement:
    """As `arrange`, but images lie anywhere, with `given` anywhere in their PART, and `labels_of` tells their classes.

    It is given the enclosing folder, which here lies above all files, images or not, and the images' paths below that.
    """
    images = _images(where, files)
    visible = [parts for path in files if not any(map(is_hidden, parts := tuple(path.split("/"))))]
    top = _enclosing(visible, 2 + given, given) if strip_top and all(len(parts) > 1 for parts in visible) else ()
    found = _found(where, images, top, given, n_class_folders=0)
    labels = labels_of(PurePosixPath(*top), [path for _, _, path in found])
    taken = {position for position, _, _ in found}
    aside = [files[position] for position, _ in images if position not in taken]
    return _arrangement(where, found, labels, top, aside, "labels")


# Where an image is among all files, its part and class folder, and its path below the enclosing folder.
_Found = tuple[int, tuple[int, str], str]


def _images(where: str, files: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Where images are among the files, and the parts of their paths."""
    # Plain string splitting: pathlib would take most of a planning's time on tens of thousands of files.
    images = [(position, tuple(path.split("/"))) for position, path in enumerate(files) if is_image(path)]
    if not images:
        raise DataError(f"{where}: holds no images; image files end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images


def _found(
    where: str, images: list[tuple[int, tuple[str, ...]]], top: tuple[str, ...], given: bool, n_class_folders: int
) -> list[_Found]:
    found = [
        (position, place, "/".join(parts[len(top) :]))
        for position, parts in images
        if (place := _place(parts, top, given, n_class_folders)) is not None
    ]
    if given:
        _require_parts(where, {part for _, (part, _), _ in found}, "/CLASS" * n_class_folders)
    return found


def _arrangement(
    where: str, found: Sequence[_Found], labels: Sequence[str], top: tuple[str, ...], aside: list[str], what: str
) -> Arrangement:
    class_names = _class_names(where, set(labels), what)
    label_of = {name: label for label, name in enumerate(class_names)}
    listing = Listing(
        class_names=class_names,
        paths=[path for _, _, path in found],
        labels=np.array([label_of[name] for name in labels], dtype=np.int64),
        parts=np.array([part for _, (part, _), _ in found], dtype=np.int8),
        aside=tuple(aside),
    )
    positions = np.array([position for position, _, _ in found], dtype=np.int64)
    return Arrangement(listing, positions, PurePosixPath(*top))


def is_hidden(part: str) -> bool:
    """Whether a file or folder of this name is one that systems and tools keep for themselves."""
    return part.startswith(".") or part == "__MACOSX"


def is_image(path: str) -> bool:
    """Whether a file is called as images are; `path` is relative, with `/`."""
    return splitext(path)[1].lower() in IMAGE_SUFFIXES and not any(map(is_hidden, path.split("/")))


def _is_in_class(path: str, top: tuple[str, ...], given: bool) -> bool:
    """Whether a file lies in a class folder, and is none that systems put into folders by themselves."""
    parts = tuple(path.split("/"))
    own = parts[-1].lower() not in SYSTEMS_FILES and not any(map(is_hidden, parts))
    return own and _place(parts, top, given, n_class_folders=1) is not None


def _enclosing(paths: Sequence[tuple[str, ...]], fewest: int, given: bool) -> tuple[str, ...]:
    """The one folder, as a path of one part, that all these files in folders lie in; else ().

    The deepest path has `fewest` parts at least, if one encloses the folders that tell something.
    """
    nested = [parts for parts in paths if len(parts) > 1]
    tops = {parts[0] for parts in nested}
    if len(tops) != 1 or max(map(len, nested)) < fewest:
        return ()
    (top,) = tops
    return () if given and top.lower() in GIVEN_FOLDERS else (top,)


def _place(parts: tuple[str, ...], top: tuple[str, ...], given: bool, n_class_folders: int) -> tuple[int, str] | None:
    """Part and first folder below that of a file; None if it lies in no part, or in fewer folders than tell a class."""
    local = parts[len(top) :]
    n_telling = n_class_folders + given
    if parts[: len(top)] != top or len(local) <= n_telling or any(map(is_hidden, local[:n_telling])):
        return None
    if not given:
        return UNGIVEN, local[0]
    part = GIVEN_FOLDERS.get(local[0].lower())
    return None if part is None else (part, local[1])


def _require_parts(where: str, parts: set[int], class_folder: str) -> None:
    for part in (TRAIN, TEST):
        if part not in parts:
            raise DataError(
                f"{where}: has no images in {PARTS[part]}{class_folder}/, which `split.method: given` needs; make the folder, "
                "or let `split.method` be stratified or group"
            )


def _refuse_empty(where: str, with_images: set[tuple[int, str]], folders: set[tuple[int, str]]) -> None:
    empty = sorted(f"{PARTS[part]}/{name}" if part != UNGIVEN else name for part, name in folders - with_images)
    if empty:
        raise DataError(
            f"{where}: no images in class folder {some(empty)}; add images or remove the folder (image files end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))})"
        )


def _class_names(where: str, found: set[str], what: str) -> tuple[str, ...]:
    names = sorted(found)
    if len(names) < 2:
        raise DataError(
            f"{where}: has {len(names)} {what} with images ({some(names) or 'none'}); a classifier needs at least two"
        )
    by_case: dict[str, str] = {}
    for name in names:
        if (other := by_case.setdefault(name.casefold(), name)) != name:
            raise DataError(f"{where}: {what} {other!r} and {name!r} differ by case only; rename one")
    return tuple(names)
