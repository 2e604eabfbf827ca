"""From any declared source to an image store: list, divide, then decode only what is kept, in one pass."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydyn.config.datasets import AnyDataset, FileDataset
from pydyn.data.checks import check_source, refuse_parts_as_classes
from pydyn.data.copies import Seen
from pydyn.data.decoding import Outcome, decode_all
from pydyn.data.groups import find_groups, no_groups
from pydyn.data.listing import IMAGE_SUFFIXES, PARTS, TEST, TRAIN, some
from pydyn.data.progress import with_progress
from pydyn.data.sources import open_source
from pydyn.data.splits import check_division, divide
from pydyn.data.store import StoreWriter
from pydyn.errors import DataError
from pydyn.files import whole_or_absent
from pydyn.provenance import versions

LOG = logging.getLogger(__name__)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Table:
    """What is known of each of N images before it is decoded."""

    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    paths: list[str]
    labels: NDArray[np.int64]
    parts: NDArray[np.uint8]
    group_ids: NDArray[np.int32]

    def take(self, rows: list[int]) -> _Table:
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            labels=self.labels[rows],
            parts=self.parts[rows],
            group_ids=self.group_ids[rows],
        )


def prepare(name: str, dataset: AnyDataset, data_root: Path, output: Path, threads: int = 2) -> None:
    """Make the image store `output` of a declared data set: whole, or not at all.

    Rows are in the source's order: the archive's, a folder's by path, train before test where images are generated or
    torchvision's. The same declaration and data give the same digest. Images are decoded by `threads` threads; only a few of
    them are in memory at a time (of all, just paths and labels are). Progress goes to standard error.

    Raises DataError or ConfigError that name the data set, what is wrong with it and what to do. All images are looked
    at before unreadable ones or ones of another size are refused, so that all can be mended at once.
    """
    where = f"data set {name!r}"
    check_source(name, dataset, data_root)
    source = open_source(where, dataset, data_root)
    listing, group = source.listing, dataset.split.group
    refuse_parts_as_classes(where, listing, dataset.split)
    if listing.aside:
        LOG.warning(
            "%s: files left out: %d, such as %s; images of a data set lie in its class folders (or parts) and end in %s",
            where,
            len(listing.aside),
            listing.aside[0],
            ", ".join(sorted(IMAGE_SUFFIXES)),
        )
    groups = find_groups(where, listing, group, source.manifest()) if group else no_groups(len(listing.paths))
    division = divide(where, listing, groups, dataset.split, dataset.limit)
    table = _Table(
        class_names=listing.class_names,
        group_names=groups.names,
        paths=[listing.paths[row] for row in division.rows],
        labels=listing.labels[division.rows],
        parts=division.parts,
        group_ids=groups.ids[division.rows],
    )
    with whole_or_absent(output) as temporary:
        size, channels = (_size(dataset), dataset.channels) if isinstance(dataset, FileDataset) else (None, None)
        made_grey: list[str] = []
        outcomes = decode_all(source.read(division.rows.tolist()), size, channels, threads, made_grey)
        kept = _write(name, dataset, table, outcomes, temporary)
    if made_grey and channels is None:
        LOG.warning(
            "%s: the first image, %s, is grey, and so the colours of %d of %d images are dropped; set `channels` to 3 to keep "
            "them, to 1 if they do not matter",
            where,
            kept.paths[0],
            len(made_grey),
            len(kept.paths),
        )


def _write(name: str, dataset: AnyDataset, table: _Table, outcomes: Iterator[Outcome], temporary: Path) -> _Table:
    """Write the store; what is known of the images that are in it, those that cannot be read left out."""
    where = f"data set {name!r}"
    intake = _Intake(table.paths)
    images = intake.accept(with_progress(outcomes, len(table.paths), f"prepare {name}"))
    first = next(images, None)
    if first is None:
        intake.refuse(where, skip_unreadable=False)
        raise DataError(f"{where}: holds no images")
    with StoreWriter(temporary, len(table.paths), first.shape) as writer:
        moments, seen = _Moments(first.shape[2]), Seen()
        images = chain((first,), images)
        while block := list(islice(images, writer.chunk_images)):
            stacked = np.stack(block)
            writer.add(stacked)
            if isinstance(dataset, FileDataset):
                seen.add(stacked)
            moments.add(stacked[table.parts[intake.kept[-len(block) :]] == TRAIN])
        intake.refuse(where, isinstance(dataset, FileDataset) and dataset.skip_unreadable)
        kept = table.take(intake.kept)
        if isinstance(dataset, FileDataset):
            _warn_of_copies(where, seen, kept)
        _finish(name, dataset, kept, intake.unreadable, moments, writer)
    counts = ", ".join(f"{np.count_nonzero(kept.parts == part)} {named}" for part, named in enumerate(PARTS))
    print(f"prepare {name}: {len(kept.paths)} images of {len(table.class_names)} classes, {counts}", flush=True)
    return kept


def _finish(
    name: str,
    dataset: AnyDataset,
    table: _Table,
    unreadable: dict[str, str],
    moments: _Moments,
    writer: StoreWriter,
) -> None:
    where = f"data set {name!r}"
    # Left-out images may have been the last of a class.
    check_division(where, table.class_names, table.labels, table.parts, table.group_ids, table.group_names)
    mean, std = moments.mean_and_std()
    writer.finish(
        {
            "dataset": name,
            "declaration": dataset.model_dump_json(),
            "created_by": json.dumps(versions()),
        },
        {"labels": table.labels, "split": table.parts, "group": table.group_ids, "mean": mean, "std": std},
        {
            "class_names": list(table.class_names),
            "group_names": list(table.group_names),
            "source": table.paths,
            "skipped": list(unreadable),
            "skipped_reason": list(unreadable.values()),
        },
    )


def _warn_of_copies(where: str, seen: Seen, table: _Table) -> None:
    """Say which images are the same as others, pixel by pixel."""
    copies = seen.copies(table.labels, table.parts, table.paths.__getitem__)
    if copies is None:
        return
    LOG.warning(
        "%s: %d of %d images are copies of others, such as %s and %s; copies that fall into the training and the test images "
        "flatter a model (%d of %d test images here): remove them, or group them",
        where,
        copies.count,
        len(table.paths),
        *copies.first,
        copies.in_test,
        np.count_nonzero(table.parts == TEST),
    )
    if copies.first_of_other_class:
        class_of = {path: table.class_names[label] for path, label in zip(table.paths, table.labels, strict=True)}
        LOG.warning(
            "%s: %d of these copies are of another class than the image they copy, such as %s (%s) and %s (%s); one is wrong",
            where,
            copies.of_other_class,
            *(text for path in copies.first_of_other_class for text in (path, class_of[path])),
        )


class _Intake:
    """Sorts decoded images: those of the first one's shape pass, of the others only the paths are kept."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._shape: tuple[int, ...] = ()
        self.kept: list[int] = []
        self.unreadable: dict[str, str] = {}
        self._other_size: dict[str, str] = {}

    def accept(self, outcomes: Iterable[Outcome]) -> Iterator[Image]:
        for position, (path, outcome) in enumerate(zip(self._paths, outcomes, strict=True)):
            if isinstance(outcome, str):
                self.unreadable[path] = outcome
                continue
            self._shape = self._shape or outcome.shape
            if outcome.shape == self._shape:
                self.kept.append(position)
                yield outcome
            else:
                self._other_size[path] = "{} x {}".format(*outcome.shape[:2])

    def refuse(self, where: str, skip_unreadable: bool) -> None:
        if self.unreadable and not skip_unreadable:
            lines = (f"  {path}: {reason}" for path, reason in self.unreadable.items())
            raise DataError(
                f"{where}: {len(self.unreadable)} of {len(self._paths)} images cannot be decoded; mend or remove them, "
                "or set `skip_unreadable: true`:\n" + "\n".join(lines)
            )
        if self._other_size:
            others = some([f"{path} ({size})" for path, size in self._other_size.items()])
            raise DataError(
                f"{where}: {len(self._other_size)} of {len(self._paths)} images have another height x width than the "
                f"first, {self._paths[self.kept[0]]} ({self._shape[0]} x {self._shape[1]}): {others}; set `image_size` "
                "to resize all"
            )
        if self.unreadable:
            LOG.warning(
                "%s: left out %d of %d images that cannot be decoded; the store lists them",
                where,
                len(self.unreadable),
                len(self._paths),
            )


class _Moments:
    """Mean and standard deviation per channel from sums of whole numbers: exact, whatever the order of images."""

    def __init__(self, n_channels: int) -> None:
        self._n_pixels = 0
        self._sums = [0] * n_channels
        self._squares = [0] * n_channels

    def add(self, images: NDArray[np.uint8]) -> None:
        self._n_pixels += math.prod(images.shape[:3])
        squares = np.square(images, dtype=np.uint16)
        for channel, (total, square) in enumerate(
            zip(images.sum((0, 1, 2), dtype=np.uint64), squares.sum((0, 1, 2), dtype=np.uint64), strict=True)
        ):
            self._sums[channel] += int(total)
            self._squares[channel] += int(square)

    def mean_and_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both (C,), in units of 0 to 1."""
        n = self._n_pixels
        variances = [n * square - total**2 for total, square in zip(self._sums, self._squares, strict=True)]
        mean = [total / (n * 255) for total in self._sums]
        std = [math.sqrt(variance) / (n * 255) for variance in variances]
        return np.array(mean), np.array(std)


def _size(dataset: FileDataset) -> tuple[int, int] | None:
    size = dataset.image_size
    return (size, size) if isinstance(size, int) else size
