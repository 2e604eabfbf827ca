"""Which images belong together: groups read from a manifest or from the paths themselves."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pydyn.config.datasets import Group
from pydyn.data.listing import Listing, some
from pydyn.errors import ConfigError, DataError

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
    if group.pattern is not None:
        names = _by_pattern(where, listing, group.pattern)
    else:
        names = _by_manifest(where, listing, group, manifest)
    ordered = sorted(set(names))
    id_of = {name: position for position, name in enumerate(ordered)}
    return Groups(np.array([id_of[name] for name in names], dtype=np.int32), tuple(ordered))


def _by_pattern(where: str, listing: Listing, pattern: str) -> list[str]:
    matches = [re.search(pattern, path) for path in listing.paths]
    names = [match and match["group"] for match in matches]
    if missed := [path for path, name in zip(listing.paths, names, strict=True) if not name]:
        raise ConfigError(
            f"{where}: `split.group.pattern` {pattern!r} finds no group in {some(missed)}; mend the pattern"
        )
    return cast(list[str], names)


def _by_manifest(where: str, listing: Listing, group: Group, manifest: bytes | None) -> list[str]:
    if manifest is None:
        raise DataError(f"{where}: has no file {group.manifest!r}, which `split.group.manifest` names")
    value_of = _read_column(f"{where}: {group.manifest}", manifest, cast(str, group.column))
    if missed := [path for path in listing.paths if not value_of.get(path)]:
        raise DataError(f"{where}: {group.manifest} gives no {group.column!r} for {some(missed)}; add rows for them")
    values = [value_of[path] for path in listing.paths]
    if group.block is None:
        return values
    names = []
    for path, label, value in zip(listing.paths, listing.labels.tolist(), values, strict=True):
        try:
            names.append(f"{listing.class_names[label]}/{int(value) // group.block}")
        except ValueError:
            raise DataError(
                f"{where}: {group.manifest} gives {value!r} as {group.column!r} of {path!r}; `split.group.block` needs "
                "whole numbers"
            ) from None
    return names


def _read_column(where: str, manifest: bytes, column: str) -> dict[str, str]:
    """The column's value of each file."""
    try:
        # Spreadsheets put a byte order mark before the first column's name.
        rows = csv.DictReader(io.StringIO(manifest.decode("utf-8-sig"), newline=""), strict=True)
        missing = {"file", column} - set(rows.fieldnames or ())
        if missing:
            raise DataError(f"{where}: has no column {some(sorted(missing))}; it has {some(rows.fieldnames or ())}")
        value_of: dict[str, str] = {}
        for row in rows:
            file, value = (row["file"] or "").removeprefix("./"), (row[column] or "").strip()
            if value_of.setdefault(file, value) != value:
                raise DataError(f"{where}: gives both {value_of[file]!r} and {value!r} for {file!r}; keep one row")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: is no UTF-8 CSV file ({error})") from error
    return value_of
