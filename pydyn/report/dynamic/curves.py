"""Curves of the study `dynamic`: by epoch, by images trained, by seconds."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pydyn.report.dynamic.budgets import COSTS
from pydyn.report.dynamic.names import PROTOCOLS
from pydyn.report.figures import (
    COLOURS,
    PAGE_WIDTH,
    Drawing,
    finish,
    frame_epochs,
    legend_below,
    line_style,
    mean_and_band,
    style,
)
from pydyn.report.results import Replicates, StudyResults, accuracy_percent
from pydyn.training.history import Epoch

# Characters over a panel of half the page.
TITLE_WIDTH = 44
# Inches that panels may take together on an A4 page.
TALLEST = 9.0

TRAIN = {"color": COLOURS[1], "linestyle": "--", "label": "training images"}
VALIDATION = {"color": COLOURS[2], "linestyle": "-", "label": "validation images"}

TEST_MARK: dict[str, Any] = {"marker": "D", "markersize": 3.5}
TEST_LABEL = "test accuracy at the best epoch"


def train_accuracy(epoch: Epoch) -> float:
    """In percent."""
    return 100 * epoch.train_accuracy


def validation_accuracy(epoch: Epoch) -> float:
    """In percent."""
    return 100 * epoch.validation_accuracy


def epoch_drawing(rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> Drawing:
    """Figures 8 to 11: a row of panels for each strategy, as measured and with elitism."""
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 0.55 + min(1.55, TALLEST / len(rows)) * len(rows)))
        axes = figure.subplots(len(rows), 2, sharex="row", sharey=True, squeeze=False)
        for pair, row, name in zip(axes, rows, names, strict=True):
            for axis, elitism in zip(pair, (False, True), strict=True):
                _epoch_panel(axis, row, elitism)
                axis.set_title("with elitism" if elitism else textwrap.fill(name, TITLE_WIDTH))
            pair[0].set_ylabel("accuracy, %")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        caption = (
            f"Accuracy by epoch, {PROTOCOLS[protocol]} (the papers' figures 8 to 11). Line: mean over the seeds; "
            "band: minimum to maximum. Elitism keeps the best so far. Training accuracy is of the epoch's images while "
            "the weights change."
        )
        return finish(f"dynamic-curves-{protocol}", caption, figure)


def _epoch_panel(axis: Axes, row: Replicates, elitism: bool) -> None:
    epochs = np.arange(1, row.run.epochs + 1, dtype=np.float64)
    for value, line in ((train_accuracy, TRAIN), (validation_accuracy, VALIDATION)):
        curves = row.curves(value)
        mean_and_band(axis, epochs, np.maximum.accumulate(curves, axis=1) if elitism else curves, "range", **line)
    frame_epochs(axis, row.run.epochs)


def cost_drawing(results: StudyResults, rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> Drawing:
    """Best accuracy so far against what it took, and where it is known the test accuracy that came of it."""
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 3.4))
        axes = figure.subplots(1, 2, sharey=True)
        handles: list[Line2D] = []
        for row, name in zip(rows, names, strict=True):
            best = np.maximum.accumulate(row.curves(validation_accuracy), axis=1)
            line = line_of(results, row)
            # Colours come again with other dashes, which a mark has not: then it is hollow.
            again = any(handle.get_color() == line["color"] for handle in handles)
            mark = {"markerfacecolor": "white" if again else line["color"], **TEST_MARK}
            handles.append(Line2D([], [], **line, label=name))
            for axis, cost in zip(axes, COSTS.values(), strict=True):
                spent = np.array([cost(result.history) for result in row.results]).mean(axis=0)
                mean_and_band(axis, spent, best, "std", **line, label=name)
                if protocol == "holdout":
                    accuracy = row.estimate(accuracy_percent)
                    bar = {"color": line["color"], "elinewidth": 0.8, "zorder": 3, **mark, "linestyle": "none"}
                    axis.errorbar(spent[-1], accuracy.mean, accuracy.std or None, **bar)
                    handles[-1].set(**mark)
        by_images, by_seconds = axes
        by_images.set_xlabel("images trained")
        by_images.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        by_images.xaxis.set_major_locator(MaxNLocator(5))
        by_seconds.set_xlabel("seconds")
        by_images.set_ylabel("best validation accuracy so far, %")
        for axis in axes:
            axis.set_xlim(left=0)
        if protocol == "holdout":
            handles.append(Line2D([], [], color="#666666", label=TEST_LABEL, linestyle="none", **TEST_MARK))
        legend_below(figure, handles, [str(handle.get_label()) for handle in handles], 2)
        return finish(f"dynamic-efficiency-{protocol}", _cost_caption(rows, protocol), figure)


def _cost_caption(rows: Sequence[Replicates], protocol: str) -> str:
    counts = sorted({len(row.results) for row in rows})
    n = f"n = {' or '.join(map(str, counts))}"
    band = f"band: one standard deviation around it ({n})" if counts[-1] > 1 else f"no band, as {n}"
    which = {
        "paper": "It is the accuracy that steers the selection, and under this protocol the one that is reported: the "
        "validation images are the test images.",
        "holdout": "It is the accuracy that steers the selection, not the one reported: test images are looked at once, "
        "when all epochs are over. Marks, where the Runs end: the test accuracy of the best epoch's weights, mean"
        f"{' and standard deviation' if counts[-1] > 1 else ''}.",
    }[protocol]
    return (
        "Best validation accuracy so far against images trained (repeats counted) and against seconds of training, "
        f"evaluation and selection, {PROTOCOLS[protocol]}. Line: mean over the seeds, of cost and of accuracy; {band}. "
        f"{which} Whether a difference holds is in the tables of differences."
    )


def spread_drawing(
    results: StudyResults,
    rows: Sequence[Replicates],
    names: Sequence[str],
    protocol: str,
    experiment: str = "robustness",
    place: str = "figure 12",
) -> Drawing:
    """Figures 12 and 13: mean and standard deviation by epoch, all strategies in one panel."""
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 3.4))
        axis = figure.subplots()
        for row, name in zip(rows, names, strict=True):
            epochs = np.arange(1, row.run.epochs + 1, dtype=np.float64)
            mean_and_band(axis, epochs, row.curves(validation_accuracy), "std", **line_of(results, row), label=name)
        frame_epochs(axis, max(row.run.epochs for row in rows))
        axis.set_xlabel("epoch")
        axis.set_ylabel("validation accuracy, %")
        axis.legend(loc="lower right")
        caption = (
            f"Validation accuracy by epoch, {PROTOCOLS[protocol]} (the papers' {place}). Line: mean over the seeds; "
            "band: one standard deviation around it."
        )
        return finish(f"dynamic-{experiment}-{protocol}", caption, figure)


def line_of(results: StudyResults, row: Replicates) -> dict[str, Any]:
    """A strategy has one line in all drawings."""
    known = dict.fromkeys(
        (result.run.strategy, result.run.epochs)
        for experiment in ("comparison", "robustness", "augmentation")
        for result in results.experiments.get(experiment, [])
    )
    return line_style(list(known).index((row.run.strategy, row.run.epochs)))
