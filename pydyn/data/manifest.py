"""What a manifest, or the paths themselves, tell of each image: its group, its class.

Runs while a workflow is planned: imports nothing slow.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import cast

from pydyn.config.datasets import Told
from pydyn.data.listing import one_form, some
from pydyn.errors import ConfigError, DataError


def told(where: str, key: str, paths: Sequence[str], by: Told, manifest: bytes | None) -> list[str]:
    """What `by`, declared under `key`, tells of the image at each of these paths inside the data set; never empty.

    `manifest` holds the bytes of `by.manifest`, None if there is no such file. Raises DataError or ConfigError, which begin
    with `where`, if nothing is told of an image.
    """
    paths = [one_form(path) for path in paths]
    if by.pattern is not None:
        return _by_pattern(where, key, paths, by.pattern, by.named)
    if manifest is None:
        raise DataError(f"{where}: has no file {by.manifest!r}, which `{key}.manifest` names")
    value_of = _read_column(f"{where}: {by.manifest}", manifest, cast(str, by.column))
    if missed := [path for path in paths if not value_of.get(path)]:
        others = sorted(value_of.keys() - set(paths))
        told_of = (
            f" (it has {len(others)} rows of no image, such as {others[0]!r}: they are relative to the data set's top folder, "
            "with `/` between folders)"
            if others
            else ""
        )
        raise DataError(f"{where}: {by.manifest} gives no {by.column!r} for {some(missed)}; add rows for them{told_of}")
    return [value_of[path] for path in paths]


def _by_pattern(where: str, key: str, paths: Sequence[str], pattern: str, named: str) -> list[str]:
    matches = [re.search(pattern, path) for path in paths]
    names = [match and match[named] for match in matches]
    if missed := [path for path, name in zip(paths, names, strict=True) if not name]:
        raise ConfigError(f"{where}: `{key}.pattern` {pattern!r} finds no {named} in {some(missed)}; mend the pattern")
    return [one_form(name) for name in cast(list[str], names)]


def _read_column(where: str, manifest: bytes, column: str) -> dict[str, str]:
    """The column's value of each file."""
    if b"\0" in manifest:  # that no store could hold
        raise DataError(f"{where}: is no UTF-8 CSV file (it holds NUL characters)")
    try:
        # Spreadsheets put a byte order mark before the first column's name.
        rows = csv.DictReader(io.StringIO(manifest.decode("utf-8-sig"), newline=""), strict=True)
        names = rows.fieldnames or ()
        if missing := {"file", column} - set(names):
            raise DataError(f"{where}: has no column {some(sorted(missing))}; it has {some(names)}")
        if doubled := [name for name in ("file", column) if list(names).count(name) > 1]:
            raise DataError(f"{where}: has several columns {some(doubled)}; keep one")
        value_of: dict[str, str] = {}
        for row in rows:
            if any(map(str.strip, row.get(None, ()))):  # as where a comma in a value shifts those behind it
                raise DataError(
                    f"{where}: line {rows.line_num} has more values than there are columns; put quotes around values with commas"
                )
            file, value = (one_form(text or "") for text in (row["file"], row[column]))
            file, value = file.removeprefix("./"), value.strip()
            if value_of.setdefault(file, value) != value:
                raise DataError(f"{where}: gives both {value_of[file]!r} and {value!r} for {file!r}; keep one row")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: is no UTF-8 CSV file ({error})") from error
    return value_of
