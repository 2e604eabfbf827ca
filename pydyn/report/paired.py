"""Paired differences on the page: as columns of a CSV file, as a cell, in words."""

from typing import Any

import pandas as pd

from pydyn.report.statistics import Estimate
from pydyn.report.tables import Cell, missing, number

NO_CLAIM = "n = 1 for each: no interval, no claim"


def difference_columns(difference: Estimate) -> dict[str, Any]:
    """Of a difference in points, for a CSV file."""
    low, high = difference.interval or (None, None)
    return {
        "pairs": difference.n,
        "difference_points": difference.mean,
        "interval_low": low,
        "interval_high": high,
        "verdict": difference.verdict,
    }


def interval_cell(low: float | None, high: float | None) -> Cell:
    """Both ends of a difference's interval, or that there is none."""
    if low is None or high is None or pd.isna(low):
        return missing("no interval")
    return Cell(f"{number(low, 2, sign=True)} to {number(high, 2, sign=True)}")


def in_words(difference: Estimate) -> str:
    """A difference and what it is worth."""
    points = f"{number(difference.mean, 2, sign=True)} points"
    if difference.n == 1:
        return f"{points} ({NO_CLAIM})"
    if difference.interval is None:
        return f"{points} in each of {difference.n} pairs ({difference.verdict})"
    low, high = difference.interval
    pairs = f"n = {difference.n} pairs"
    if difference.verdict != "holds":  # most are not, so in fewer words
        return f"{points}, not resolved (95 % interval ± {number((high - low) / 2, 2)}, {pairs})"
    interval = f"95 % interval {number(low, 2, sign=True)} to {number(high, 2, sign=True)}"
    return f"{points}, a difference that holds ({interval}, {pairs})"
