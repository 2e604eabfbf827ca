"""What can be said of a data set while a workflow is planned: cheap, nothing decoded, nothing downloaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from pydyn.config.datasets import (
    SHAPES_CLASSES,
    TORCHVISION_SIZES,
    AnyDataset,
    ArchiveDataset,
    FolderDataset,
    Limit,
    ShapesDataset,
    Split,
    Told,
    TorchvisionDataset,
)
from pydyn.data.archives import check_archive
from pydyn.data.groups import no_groups
from pydyn.data.listing import (
    GIVEN_FOLDERS,
    LEFT_BY_TEST,
    TRAIN,
    VALIDATION,
    Arrangement,
    Listing,
    arrange,
    arrange_labelled,
    is_hidden,
    is_image,
    share_count,
    some,
)
from pydyn.data.manifest import told
from pydyn.data.splits import check_limit, divide, require_divisible, too_few
from pydyn.errors import DataError
from pydyn.files import walk
from pydyn.studies.pools import Pool

# With fewer, a listing is refused.
FEWEST_CLASSES = 2


def check_source(name: str, dataset: AnyDataset, data_root: Path) -> None:
    """Refuse a data set that cannot be prepared, as far as a glance tells.

    A folder is listed and its classes checked; of an archive only the suffix and the beginning are looked at.
    Raises DataError that names the data set, the file and what to do.
    """
    where = f"data set {name!r}"
    if isinstance(dataset, FolderDataset):
        arrange_folder(where, dataset, data_root)
        group = dataset.split.group
        if group and group.manifest and not (dataset.resolve(data_root) / group.manifest).is_file():
            raise DataError(f"{where}: has no file {group.manifest!r}, which `split.group.manifest` names")
    elif isinstance(dataset, ArchiveDataset):
        path = dataset.resolve(data_root)
        if not path.is_file():
            raise DataError(f"{where}: {path} {_instead_of_file(path)}; put the archive there, or mend `path`")
        check_archive(where, path)
    elif isinstance(dataset, TorchvisionDataset) and not dataset.download:
        root = torchvision_root(data_root)
        if not root.is_dir():
            raise DataError(f"{where}: {root} does not exist; put {dataset.name} there, or set `download: true`")


def refuse_parts_as_classes(where: str, listing: Listing, split: Split) -> None:
    """Refuse the folders of a data set that comes divided for its classes. Raises DataError, which begins with `where`."""
    if split.method != "given" and all(name.lower() in GIVEN_FOLDERS for name in listing.class_names):
        raise DataError(
            f"{where}: its classes would be {some(listing.class_names)}, which are names of parts; let `split.method` be given "
            "if the class folders lie in them, or rename them"
        )


def known_pool(name: str, dataset: AnyDataset, data_root: Path) -> Pool | None:
    """The data set's pool; None if only reading the data tells.

    Exact but where images may turn out unreadable, where groups decide, and of archives, which are not listed.
    Raises DataError as `check_source` does, and DataError or ConfigError if what is known cannot be divided as declared.
    """
    where, split, limit = f"data set {name!r}", dataset.split, dataset.limit.train
    if isinstance(dataset, FolderDataset):
        listing = arrange_folder(where, dataset, data_root).listing
        refuse_parts_as_classes(where, listing, split)
        n_images, n_classes = len(listing.paths), len(listing.class_names)
        if split.method != "group":
            parts = divide(where, listing, no_groups(n_images), split, dataset.limit).parts
            n_train, n_held_out = (int(np.count_nonzero(parts == part)) for part in (TRAIN, VALIDATION))
            return Pool(n_train + n_held_out, n_train, exact=not dataset.skip_unreadable)
        require_divisible(where, listing, split)
        # At the least, the test and the validation part have an image of each class.
        most = n_images - n_classes, n_images - LEFT_BY_TEST * n_classes
        _check_parts(where, dataset.limit, n_classes, most, told="the most there can be")
        n_most = min(most[0], limit or n_images)
        return Pool(n_most, n_most - n_classes, exact=False)
    if isinstance(dataset, ArchiveDataset):
        _check_parts(where, dataset.limit, FEWEST_CLASSES, (None, None))
        return None if limit is None else Pool(limit, limit - _fewest_held_out(split, limit), exact=False)
    if isinstance(dataset, ShapesDataset):
        size, n_test, n_classes = dataset.train, dataset.test, SHAPES_CLASSES
    else:
        size, n_test, n_classes = TORCHVISION_SIZES[dataset.name]
    _check_parts(where, dataset.limit, n_classes, (size, n_test))
    n_most = min(size, limit or size)
    return Pool(n_most, n_most - share_count(n_most, split.validation, n_classes, leave=1), exact=True)


def _check_parts(
    where: str,
    limit: Limit,
    n_classes: int,
    sizes: tuple[int | None, int | None],
    told: str = "the number of images there are",
) -> None:
    """Refuse limits that so many training and test images cannot meet, and too few of them.

    Where numbers are None, they are not known, and of classes there are at least so many. Raises ConfigError or DataError, as the
    division of what is there would later.
    """
    for part, named, wanted, size, least in (
        ("train", "training", limit.train, sizes[0], LEFT_BY_TEST),
        ("test", "test", limit.test, sizes[1], 1),
    ):
        if wanted is not None and size is not None and wanted != size:
            check_limit(where, part, wanted, n_classes, n_classes, size, told)
        kept = wanted or size
        if kept is not None and kept < least * n_classes:
            classes = f"{'at least ' if size is None else ''}{n_classes} classes"
            raise too_few(where, f"{kept} {named} images of {classes}", least, None if wanted is None else part)


def _fewest_held_out(split: Split, n_images: int) -> int:
    """Of training images of which neither classes nor groups are known: at the least, one of each of two classes."""
    if split.method != "stratified":
        return 2
    # The more classes, the closer to a half of the images is what is held out: each gives one, and keeps one.
    return max(2, min(round(n_images * split.validation), (n_images + 1) // 2))


def arrange_folder(where: str, dataset: FolderDataset, data_root: Path) -> Arrangement:
    """List a folder of images, sorted by path. Raises DataError or ConfigError, which begin with `where`."""
    root = dataset.resolve(data_root)
    if not root.is_dir():
        missing = "is a file (`source: archive` reads archives)" if root.is_file() else "does not exist"
        holds = "images" if dataset.labels else "class folders"
        raise DataError(f"{where}: {root} {missing}; put the folder of {holds} there, or mend `path`")
    files: list[str] = []
    folders: list[str] = []
    for path, is_folder in walk(root):
        (folders if is_folder else files).append(path)
    if lost := [path for path in files if _may_be_lost_folder(root, path)]:
        leads = "leads" if len(lost) == 1 else "lead"
        raise DataError(
            f"{where}: {root}: {some(sorted(lost))} {leads} nowhere; make or mount what is linked to, or remove the link"
        )
    given, labels = dataset.split.method == "given", dataset.labels
    if labels is None:
        return arrange(f"{where}: {root}", sorted(files), folders, given=given)
    manifest = read_manifest(root, labels)
    return arrange_labelled(
        f"{where}: {root}",
        sorted(files),
        lambda _, paths: told(where, "labels", paths, labels, manifest),
        given=given,
    )


def read_manifest(root: Path, by: Told | None) -> bytes | None:
    """The manifest in a folder that tells something; None if there is none, or none is declared."""
    path = root / by.manifest if by and by.manifest else None
    return path.read_bytes() if path and path.is_file() else None


def source_state(dataset: AnyDataset, data_root: Path) -> str:
    """A digest that changes when files of a folder come, go or are written, or an archive has another size or date.

    16 hex digits, empty for other sources. For a workflow, which sees by itself whether an archive is newer than what was made
    from it, but neither a folder, nor an archive put in another's place that is older than what was made from that.
    """
    if isinstance(dataset, FolderDataset):
        root = dataset.resolve(data_root)
        files = sorted(path for path, is_folder in walk(root) if not is_folder)
        described = [(path, _status(root / path)) for path in files]
    elif isinstance(dataset, ArchiveDataset):
        described = [("", dataset.resolve(data_root).stat())]
    else:
        return ""
    states = [f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n" for path, status in described]
    return hashlib.sha256(os.fsencode("".join(states))).hexdigest()[:16]


def torchvision_root(data_root: Path) -> Path:
    """Where torchvision keeps its downloads."""
    return data_root / "torchvision"


def _may_be_lost_folder(root: Path, path: str) -> bool:
    """Whether a file is a link that leads nowhere, and not called as images are: of these each is named when it is read."""
    return not is_image(path) and not any(map(is_hidden, path.split("/"))) and not (root / path).exists()


def _status(path: Path) -> os.stat_result:
    """Of a file; of a link that leads nowhere, its own."""
    return path.stat() if path.exists() else path.lstat()


def _instead_of_file(path: Path) -> str:
    return "is a folder (`source: folder` reads folders)" if path.is_dir() else "does not exist"
