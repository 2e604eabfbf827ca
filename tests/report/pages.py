"""Pages of synthetic results of the study dynamic, and what tests ask of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pydyn.report.page import write_report
from pydyn.training.summary import Summary

T_975 = {2: 12.706204736432095, 3: 4.302652729911275, 4: 3.182446305284263}

Synthesise = Callable[..., Any]
ReadTables = Callable[[Path], dict[str, list[list[str]]]]


def report(synthesise: Synthesise, *parts: Any, **store: Any) -> tuple[Path, dict[Any, Summary]]:
    config, results, written = synthesise(*parts, **store)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    return results / "report", written


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tables" / f"{name}.csv")


def chosen(written: dict[Any, Summary], protocol: str, **fields: Any) -> list[Summary]:
    return [
        summary
        for run, summary in written.items()
        if run.protocol == protocol and all(getattr(run.strategy, key, None) == value for key, value in fields.items())
    ]


def interval(sample: list[float]) -> tuple[float, float]:
    return float(np.mean(sample)), T_975[len(sample)] * float(np.std(sample, ddof=1)) / len(sample) ** 0.5


def last_accuracy(summary: Summary) -> float:
    """After the last epoch, on the images that the Run's protocol reports."""
    accuracy = summary.accuracy
    return 100 * (accuracy.last_validation if accuracy.test_at_last is None else accuracy.test_at_last)


def lines(axis: Axes) -> dict[str, NDArray[np.float64]]:
    """Heights of the lines of a panel, by what they are called."""
    return {str(line.get_label()): np.asarray(line.get_ydata(), dtype=np.float64) for line in axis.lines}


def bands(axis: Axes) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Lower and upper ends of the bands of a panel, from left to right."""
    found = []
    for band in axis.collections:
        x, y = np.asarray(band.get_paths()[0].vertices).T
        ends = [(y[x == at].min(), y[x == at].max()) for at in np.unique(x)]
        found.append((np.array([low for low, _ in ends]), np.array([high for _, high in ends])))
    return found


def cells(axis: Axes) -> dict[tuple[str, str], str]:
    """What is written into the cells of a heat map or matrix whose first row is at the top, by row and column."""
    assert axis.yaxis_inverted()
    # Panels side by side, or one below the other, share names.
    every = [axis, *axis.figure.axes]
    rows, columns = (
        next(
            names
            for one in every
            if any(names := [label.get_text() for label in getattr(one, f"get_{way}ticklabels")()])
        )
        for way in "yx"
    )
    return {(rows[int(y)], columns[int(x)]): text.get_text() for text in axis.texts for x, y in [text.get_position()]}


def beyond_the_edge(figure: Figure) -> bool:
    """Whether anything drawn lies outside, in part at least; a hundredth of an inch is rounding."""
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) < -0.01
