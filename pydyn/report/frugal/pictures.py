"""Calibration and confusion, as pictures."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pydyn.metrics import calibration
from pydyn.report.figures import (
    COLOUR_MAP,
    COLOURS,
    PAGE_WIDTH,
    Drawing,
    finish,
    style,
    verbatim,
)
from pydyn.report.frugal.read import Row

# Of a confusion matrix, as many columns as have room for slanted names and for figures, of all panels together; and as many
# names, upright below and beside them.
MOST_SLANTED = 10
MOST_WRITTEN = 20
MOST_COLUMN_NAMES = 50
MOST_ROW_NAMES = 80


def reliability_drawing(place: tuple[str, str, str], ours: Row, rival: Row | None) -> Drawing:
    """Are probabilities what they say? Proposed method and fine-tuning, test images of all replicates together."""
    dataset, backbone, splits = place
    shown = [ours, *([rival] if rival else [])]
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.9))
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, row in zip(axes, shown, strict=True):
            probabilities = np.concatenate([chances for chances, _ in row.predictions])
            labels = np.concatenate([truth for _, truth in row.predictions])
            bins = [found for found in calibration(probabilities, labels) if found.count]
            largest = max(found.count for found in bins)
            axis.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1, linestyle=(0, (4, 3)))
            axis.scatter(
                [found.confidence for found in bins],
                [found.accuracy for found in bins],
                [6 + 120 * found.count / largest for found in bins],
                color=COLOURS[0] if row.is_fine_tuning else COLOURS[1],
                alpha=0.8,
                linewidths=0,
            )
            axis.set_title("fine-tuning" if row.is_fine_tuning else "proposed")
            axis.set_xlabel("largest probability")
            axis.set_xlim(0, 1.02)
            axis.set_ylim(-0.02, 1.05)
        axes[0].set_ylabel("share that is right")
        caption = (
            f"Reliability on test images of {dataset}, {backbone}, all replicates together: on the dashed line probabilities are "
            "what they say; below it the model is too sure of itself. Areas are in proportion to the number of images."
        )
        return finish(f"frugal-reliability-{dataset}-{backbone}-{splits}", caption, figure)


def confusion_drawing(
    place: tuple[str, str, str], ours: Row, rival: Row | None, class_names: tuple[str, ...]
) -> Drawing:
    """Which classes are taken for which."""
    dataset, backbone, splits = place
    shown = [ours, *([rival] if rival else [])]
    n_classes, n_columns = len(class_names), len(class_names) * len(shown)
    is_written = n_columns <= MOST_WRITTEN
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, _confusion_height(n_classes, n_columns)))
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, row in zip(axes, shown, strict=True):
            counts = np.sum([summary.test.confusion for summary in row.results], axis=0)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            line = 1.5 if is_written else 0.2
            axis.pcolormesh(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, edgecolors="white", linewidth=line)
            for (true, taken), count in np.ndenumerate(counts) if is_written else ():
                ink = "#ffffff" if shares[true, taken] > 0.85 else "#111111"
                text = f"{100 * shares[true, taken]:.0f} %\n{count:,}"
                axis.text(taken + 0.5, true + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
            places, names = np.arange(n_classes) + 0.5, [verbatim(name) for name in class_names]
            below, beside = -(-n_columns // MOST_COLUMN_NAMES), -(-n_classes // MOST_ROW_NAMES)
            small: dict[str, Any] = {} if is_written else {"fontsize": 6}
            turned: dict[str, Any] = {"rotation": 20, "ha": "right"} if n_columns <= MOST_SLANTED else {"rotation": 90}
            axis.set_xticks(places[::below], names[::below], **turned, **small)
            axis.set_yticks(places[::beside], names[::beside], **small)
            axis.set_title("fine-tuning" if row.is_fine_tuning else "proposed")
            axis.set_xlabel("taken for")
            axis.tick_params(length=0)
            axis.grid(False)
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel("class")
        axes[0].invert_yaxis()
        what = "share of the class, and images."
        if not is_written:
            unnamed = "" if below == beside == 1 else ", nor for all names, which are in one order both ways"
            what = (
                "the darker, the larger the share of the class. Of so many classes there is no room for figures"
                f"{unnamed}; predictions.csv of each Run has every image."
            )
        caption = f"Test images of {dataset} by class, {backbone}, all replicates together: {what}"
        return finish(f"frugal-confusion-{dataset}-{backbone}-{splits}", caption, figure)


def _confusion_height(n_classes: int, n_columns: int) -> float:
    """Inches: of few classes rows are as high as looks well, of more as high as their text, two lines or a name."""
    if n_columns <= MOST_SLANTED:
        return min(3.4, 1.4 + 0.45 * n_classes)
    return 1.6 + (0.24 * n_classes if n_columns <= MOST_WRITTEN else 0.11 * min(n_classes, MOST_ROW_NAMES))
