"""Where images come from: one interface over generated figures, folders, archives and torchvision's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from pydyn.config.datasets import AnyDataset, ArchiveDataset, FolderDataset, ShapesDataset, Told, TorchvisionDataset
from pydyn.data.archives import scan_archive, stream_archive
from pydyn.data.checks import arrange_folder, read_manifest, torchvision_root
from pydyn.data.decoding import Payload
from pydyn.data.listing import PARTS, TEST, TRAIN, Listing, arrange, arrange_labelled
from pydyn.data.manifest import told
from pydyn.data.shapes import KINDS, shapes_image
from pydyn.errors import DataError


class Source(Protocol):
    """Images that are listed at once and read later, front to back."""

    listing: Listing

    def manifest(self) -> bytes | None:
        """The file that `split.group.manifest` names; None if there is none."""

    def read(self, rows: Iterable[int]) -> Iterator[Payload]:
        """The images at these ascending positions in the listing."""


def open_source(where: str, dataset: AnyDataset, data_root: Path) -> Source:
    """List the images of a data set, after a download if torchvision needs one.

    Raises DataError, which begins with `where`.
    """
    if isinstance(dataset, ShapesDataset):
        return _Shapes(dataset)
    if isinstance(dataset, FolderDataset):
        return _Folder(where, dataset, data_root)
    if isinstance(dataset, ArchiveDataset):
        return _Archive(where, dataset, data_root)
    return _Torchvision(where, dataset, data_root)


def _in_two_parts(class_names: tuple[str, ...], train: Any, test: Any) -> Listing:
    """A listing of train images followed by test images, from their labels."""
    return Listing(
        class_names=class_names,
        paths=[f"{PARTS[part]}:{i}" for part, labels in ((TRAIN, train), (TEST, test)) for i in range(len(labels))],
        labels=np.concatenate((train, test)).astype(np.int64),
        parts=np.repeat((TRAIN, TEST), (len(train), len(test))).astype(np.int8),
    )


class _Shapes:
    def __init__(self, dataset: ShapesDataset) -> None:
        self._dataset = dataset
        train, test = np.arange(dataset.train), np.arange(dataset.test)
        self.listing = _in_two_parts(KINDS, train % len(KINDS), test % len(KINDS))

    def manifest(self) -> None:
        return None

    def read(self, rows: Iterable[int]) -> Iterator[Payload]:
        for row in rows:
            part, index = self.listing.paths[row].split(":")
            yield shapes_image(self._dataset, part, int(index))


class _Folder:
    def __init__(self, where: str, dataset: FolderDataset, data_root: Path) -> None:
        self._root = dataset.resolve(data_root)
        self._group = dataset.split.group
        self.listing = arrange_folder(where, dataset, data_root).listing

    def manifest(self) -> bytes | None:
        return read_manifest(self._root, self._group)

    def read(self, rows: Iterable[int]) -> Iterator[Payload]:
        for row in rows:
            yield self._root / self.listing.paths[row]


class _Archive:
    def __init__(self, where: str, dataset: ArchiveDataset, data_root: Path) -> None:
        self._where = where
        self._path = dataset.resolve(data_root)
        self._group, labels = dataset.split.group, dataset.labels
        manifests = {by.manifest for by in (self._group, labels) if by and by.manifest}
        contents = scan_archive(where, self._path, wanted=manifests)
        self._texts = contents.texts
        named, given = f"{where}: {self._path}", dataset.split.method == "given"
        if labels is None:
            self._arranged = arrange(named, contents.files, contents.folders, given=given, strip_top=True)
        else:
            self._arranged = arrange_labelled(
                named,
                contents.files,
                lambda top, paths: told(where, "labels", paths, labels, self._text(top, labels)),
                given=given,
                strip_top=True,
            )
        self.listing = self._arranged.listing

    def manifest(self) -> bytes | None:
        return self._text(self._arranged.top, self._group)

    def _text(self, top: PurePosixPath, by: Told | None) -> bytes | None:
        return self._texts.get(str(top / by.manifest)) if by and by.manifest else None

    def read(self, rows: Iterable[int]) -> Iterator[Payload]:
        return stream_archive(self._where, self._path, (int(self._arranged.positions[row]) for row in rows))


class _Torchvision:
    def __init__(self, where: str, dataset: TorchvisionDataset, data_root: Path) -> None:
        root = torchvision_root(data_root)
        try:
            self._train, self._test = (_load(dataset, root, part) for part in (True, False))
        # Downloads fail with URLError (an OSError); damaged or missing files with RuntimeError.
        except (OSError, RuntimeError, EOFError) as error:
            advice = "check the connection" if dataset.download else "set `download: true`"
            raise DataError(
                f"{where}: torchvision cannot provide {dataset.name} in {root} ({error}); {advice}, or put its "
                "files there, or use `source: archive` with an archive of its images"
            ) from error
        train, test = (np.asarray(_labels(part)) for part in (self._train, self._test))
        # SVHN alone has no list of classes: its labels are the digits.
        names = getattr(self._train, "classes", None) or range(int(train.max()) + 1)
        self.listing = _in_two_parts(tuple(map(str, names)), train, test)

    def manifest(self) -> None:
        return None

    def read(self, rows: Iterable[int]) -> Iterator[Payload]:
        n_train = len(self._train)
        for row in rows:
            image, _ = self._train[row] if row < n_train else self._test[row - n_train]
            yield image


def _load(dataset: TorchvisionDataset, root: Path, train: bool) -> Any:
    # Imported here because it takes seconds, and only this source needs it.
    from torchvision import datasets

    part = {"split": "train" if train else "test"} if dataset.name == "SVHN" else {"train": train}
    return getattr(datasets, dataset.name)(root=root, download=dataset.download, **part)


def _labels(part: Any) -> Any:
    return part.targets if hasattr(part, "targets") else part.labels
