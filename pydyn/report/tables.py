"""Tables: what the page shows and, value by value, what stands in the CSV file beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd

from pydyn.report.statistics import Estimate

NOT_RUN = "not run"
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """One cell as the page shows it."""

    text: str
    note: str = ""
    """A second line in small type."""
    kind: Literal["number", "label", "missing"] = "number"
    rows: int = 1
    """How many rows it spans."""


@dataclass(frozen=True)
class Table:
    """A table of the page and its CSV file."""

    kind: ClassVar[str] = "table"

    name: str
    """The CSV file's name without the suffix."""
    caption: str
    header: Sequence[str]
    body: Sequence[Sequence[Cell]]
    data: pd.DataFrame
    """The values unrounded, as the CSV file holds them."""
    folded: bool = False
    """Shown only when opened."""


def listing(
    name: str,
    caption: str,
    data: pd.DataFrame,
    columns: Mapping[str, Callable[[Any], Cell]],
    folded: bool = False,
) -> Table:
    """A table with one row on the page for each row of `data`: every column makes its cell from the row."""
    body = [[column(row) for column in columns.values()] for row in data.itertuples()]
    return Table(name, caption, list(columns), body, data, folded)


def label(text: str, note: str = "", rows: int = 1) -> Cell:
    """A cell of words."""
    return Cell(text, note, "label", rows)


def missing(text: str = NOT_RUN) -> Cell:
    """A cell without a value."""
    return Cell(text, kind="missing")


def with_interval(mean: float, half_width: float | None, decimals: int) -> str:
    """As `84.5 ± 0.3`; without an interval the mean alone."""
    return f"{number(mean, decimals)} {beside(half_width, decimals)}".rstrip()


def beside(half_width: float | None, decimals: int) -> str:
    """As `± 0.3`, to stand below a mean; nothing without an interval."""
    if half_width is None or pd.isna(half_width):
        return ""
    smallest = 10.0**-decimals
    text = number(half_width, decimals)
    return f"± {text}" if half_width >= smallest / 2 else f"± <\u00a0{smallest:.{decimals}f}"


def number(value: float, decimals: int = 0, sign: bool = False) -> str:
    """As `12,345.6`, with a real minus."""
    text = f"{value:{'+' if sign else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def decimals_of_seconds(value: float) -> int:
    """Enough for three significant digits, at most three."""
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3


def seconds(value: float, half_width: float | None = None) -> str:
    """Three significant digits, with or without an interval."""
    return with_interval(value, half_width, decimals_of_seconds(value))


def duration(value: float) -> str:
    """For a sentence: seconds, minutes or hours."""
    if value < 120:
        return f"{seconds(value)} seconds"
    return f"{value / 60:.0f} minutes" if value < 7200 else f"{value / 3600:.1f} hours"


def share(value: float) -> str:
    """Of a pool, as `30 %` or `12.5 %`."""
    return f"{100 * value:.3g} %"


def time_share(value: float) -> str:
    """Of another Run's time: finer than a percent is noise."""
    return f"{100 * value:.0f} %"


def capitalised(text: str) -> str:
    """To begin a heading or a sentence: the rest is left as it is."""
    return text[0].upper() + text[1:]


def spread(prefix: str, estimate: Estimate | None) -> dict[str, float | None]:
    """An estimate, or that there is none, as columns of a CSV file."""
    return {
        f"{prefix}_mean": estimate.mean if estimate else None,
        f"{prefix}_std": estimate.std if estimate else None,
        f"{prefix}_half_width_95": estimate.half_width if estimate else None,
    }
