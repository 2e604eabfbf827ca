"""Pages of synthetic results of the study dynamic, and what tests ask of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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


def beyond_the_edge(figure: Figure) -> bool:
    """Whether anything drawn lies outside, in part at least; a hundredth of an inch is rounding."""
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) < -0.01
