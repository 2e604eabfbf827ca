"""Calibration, confusion and adaptation, as pictures."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pydyn.metrics import calibration
from pydyn.report.figures import (
    COLOUR_MAP,
    COLOURS,
    PAGE_WIDTH,
    Drawing,
    finish,
    legend_below,
    line_style,
    style,
    verbatim,
)
from pydyn.report.frugal.read import FrugalResults, Row, adaptation_of
from pydyn.studies.frugal_runs import HeadRun


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
    side = min(3.4, 1.4 + 0.45 * len(class_names))
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, side))
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, row in zip(axes, shown, strict=True):
            counts = np.sum([summary.test.confusion for summary in row.results], axis=0)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.pcolormesh(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
            for (true, taken), count in np.ndenumerate(counts):
                ink = "#ffffff" if shares[true, taken] > 0.85 else "#111111"
                text = f"{100 * shares[true, taken]:.0f} %\n{count:,}"
                axis.text(taken + 0.5, true + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
            places = np.arange(len(class_names)) + 0.5
            axis.set_xticks(places, [verbatim(name) for name in class_names], rotation=20, ha="right")
            axis.set_yticks(places, [verbatim(name) for name in class_names])
            axis.set_title("fine-tuning" if row.is_fine_tuning else "proposed")
            axis.set_xlabel("taken for")
            axis.tick_params(length=0)
            axis.grid(False)
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel("class")
        axes[0].invert_yaxis()
        caption = (
            f"Test images of {dataset} by class, {backbone}, all replicates together: share of the class, and images."
        )
        return finish(f"frugal-confusion-{dataset}-{backbone}-{splits}", caption, figure)


def adaptation_drawing(results: FrugalResults) -> Drawing | None:
    """How batch normalisation followed the new domain."""
    curves: dict[str, list[float]] = {}
    for row in results.rows("ablation"):
        run = row.run
        if row.is_proposed and isinstance(run, HeadRun):
            changes = adaptation_of(run, results.folder)["changes"]
            if np.isfinite(changes).any():
                curves[f"{run.dataset}, {run.backbone.label}, {run.splits}"] = changes
    if not curves:
        return None
    threshold = results.study.adaptation.threshold
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.8))
        axis = figure.subplots()
        for position, (name, changes) in enumerate(curves.items()):
            finite = np.where(np.isfinite(changes), changes, np.nan)
            axis.plot(np.arange(1, len(changes) + 1), finite, **line_style(position), marker=".", label=name)
        axis.axhline(threshold, color="#aaaaaa", linewidth=1, linestyle=(0, (4, 3)))
        axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("batch")
        axis.set_ylabel("change of the running means")
        legend_below(figure, *axis.get_legend_handles_labels(), 2)
        caption = (
            "Adaptation of batch normalisation, first replicate: relative change of all running means from batch to batch. Ends "
            f"below {threshold:g} (dashed), at the latest after {results.study.adaptation.max_batches} batches."
        )
        return finish("frugal-adaptation", caption, figure)
