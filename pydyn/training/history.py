"""A Run's history: one row per epoch, appended and flushed, so that a killed Run keeps what it has."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydyn.errors import RunError
from pydyn.files import append_text, write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Epoch:
    """One row. Equal Runs on one device give equal rows, the seconds apart."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's images, each seen once while the weights change."""
    train_accuracy: float
    """Likewise, in 0..1."""
    validation_loss: float
    validation_accuracy: float
    """On the images that steer the selection, after the epoch, in 0..1."""
    subset_size: int
    """Images trained on in this epoch."""
    images_trained: int
    """Since the start, repeats counted."""
    unique_images: int
    """Different images seen since the start."""
    resampling: str
    """After this epoch: none, I or II."""
    replaced: int
    """Images drawn from outside the subset at that resampling."""
    beta: float
    """The share to be replaced at this epoch, 0 for strategies without one."""
    seconds_train: float
    seconds_evaluate: float
    seconds_select: float
    seconds_waiting: float
    """Of these three together: while other work had the processors; NaN where the system does not tell."""


Row = TypeVar("Row", bound="DataclassInstance")
"""A frozen dataclass of numbers and short texts without commas, as `Epoch`."""


class History(Generic[Row]):
    """The rows of one Run, in memory and in a CSV file."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._kind = kind

    def restart(self, rows: Sequence[Row]) -> None:
        """Make these rows the whole history: none at the start, those of the checkpoint when a Run is resumed."""
        self.rows = list(rows)
        write_text(self.path, "".join(_line(values) for values in [_columns(self._kind), *map(_texts, rows)]))

    def append(self, row: Row) -> None:
        """Add an epoch and bring it to disk."""
        self.rows.append(row)
        append_text(self.path, _line(_texts(row)))


def read_history(path: Path, kind: type[Row]) -> list[Row]:
    """Read the rows of a history. Raises RunError if the file is not a whole history."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header != _columns(kind):
            raise ValueError(f"columns are {header}")
        return [_parse(row, kind) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: not a readable history ({error}); remove its folder and run again") from None


def to_values(rows: "Sequence[DataclassInstance]") -> list[dict[str, int | float | str]]:
    """Rows as plain values, for a checkpoint."""
    return [asdict(row) for row in rows]


def _texts(row: "DataclassInstance") -> list[str]:
    # repr: a float's shortest text that reads back as the same float.
    return [value if isinstance(value, str) else repr(value) for value in astuple(row)]


def _line(values: Sequence[str]) -> str:
    return ",".join(values) + "\n"


def _columns(kind: "type[DataclassInstance]") -> list[str]:
    return [field.name for field in fields(kind)]


def _parse(row: list[str], kind: type[Row]) -> Row:
    columns = fields(kind)
    if len(row) != len(columns):
        raise ValueError(f"a row has {len(row)} values instead of {len(columns)}")
    return kind(*[field.type(text) for field, text in zip(columns, row, strict=True)])  # type: ignore[operator]
