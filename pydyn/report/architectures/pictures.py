"""Pictures of the study `architectures`."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from pydyn.report import published
from pydyn.report.architectures.rows import Row, accuracies
from pydyn.report.figures import (
    COLOUR_MAP,
    PAGE_WIDTH,
    Drawing,
    Panel,
    finish,
    frame_epochs,
    heat_maps,
    legend_below,
    line_style,
    mean_and_band,
    style,
    verbatim,
)
from pydyn.report.results import Replicates
from pydyn.report.tables import NOT_RUN
from pydyn.training.history import Epoch


def curves_drawing(rows: Sequence[Row], best: Replicates | None) -> Drawing:
    """Accuracy and loss by epoch, training and test images; `best`: of experiment 3, at least one of all."""
    lines = [(row.name, row.replicates) for row in rows]
    if best is not None:
        lines.append(("3: base, best of the grid", best))
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 4.6))
        axes = figure.subplots(2, 2, sharex=True)
        panels: tuple[tuple[str, Callable[[Epoch], float]], ...] = (
            ("training accuracy, %", lambda epoch: 100 * epoch.train_accuracy),
            ("test accuracy, %", lambda epoch: 100 * epoch.validation_accuracy),
            ("training loss", lambda epoch: epoch.train_loss),
            ("test loss", lambda epoch: epoch.validation_loss),
        )
        for axis, (title, value) in zip(axes.flatten(), panels, strict=True):
            for position, (name, replicates) in enumerate(lines):
                epochs = np.arange(1, replicates.run.epochs + 1, dtype=np.float64)
                mean_and_band(axis, epochs, replicates.curves(value), "range", **line_style(position), label=name)
            frame_epochs(axis, max(replicates.run.epochs for _, replicates in lines))
            axis.set_title(title)
        for axis in axes[1]:
            axis.set_xlabel("epoch")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend_below(figure, handles, labels, 2)
        caption = (
            "By epoch: line mean over the seeds, band minimum to maximum. Training figures are of the epoch's images while the "
            "weights change, with dropout and augmentation where the experiment has them."
        )
        if best is not None:
            caption += f" Of experiment 3 the combination with the highest accuracy: {_place(best)}."
        return finish("architectures-curves", caption, figure)


def confusion_drawing(rows: Sequence[Row], best: Replicates | None, class_names: Sequence[str]) -> Drawing:
    """Which classes are taken for which, experiment by experiment; `best`: of experiment 3, at least one of all."""
    panels = [(f"experiment {row.experiment}", row.replicates) for row in rows if row.is_plain]
    if best is not None:
        panels.append(("experiment 3, best", best))
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 3.1))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, replicates) in zip(axes, panels, strict=True):
            counts = np.sum([result.summary.confusion for result in replicates.results], axis=0)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.pcolormesh(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
            for (true, taken), value in np.ndenumerate(shares):
                ink = "#ffffff" if value > 0.85 else "#111111"
                text = f"{100 * value:.0f}" if value >= 0.005 else ""
                size = 4.5 if len(class_names) > 6 else 7.5
                axis.text(taken + 0.5, true + 0.5, text, ha="center", va="center", fontsize=size, color=ink)
            places = np.arange(len(class_names)) + 0.5
            axis.set_xticks(places, [verbatim(name) for name in class_names], rotation=90, fontsize=6)
            axis.set_yticks(places, [verbatim(name) for name in class_names], fontsize=6)
            axis.set_title(title)
            axis.tick_params(length=0)
            axis.grid(False)
            axis.spines[:].set_visible(False)
        axes[0].invert_yaxis()
        axes[0].set_ylabel("class")
        caption = "Test images of a class (rows) taken for which (columns), in percent, after the last epoch, all seeds together."
        if best is not None:
            caption += f" Of experiment 3 the combination with the highest accuracy: {_place(best)}."
        return finish("architectures-confusion", caption, figure)


def _place(cell: Replicates) -> str:
    """Of the grid."""
    return f"rate {cell.run.learning_rate:g}, batch {cell.run.batch_size}, {cell.run.epochs} epochs"


def grid_drawing(rows: Sequence[Replicates]) -> Drawing:
    """Experiment 3 as heat maps, measured beside published."""
    epochs = sorted({row.run.epochs for row in rows})
    sizes = sorted({row.run.batch_size for row in rows})
    rates = sorted({row.run.learning_rate for row in rows}, reverse=True)
    found = {(row.run.learning_rate, row.run.batch_size, row.run.epochs): accuracies(row).mean for row in rows}
    told = {place: outcome.accuracy_percent for place, outcome in published.architectures_grid().items()}
    panels = []
    for n_epochs in epochs:
        for title, values in (("measured", found), ("published", told)):
            grid = np.array([[values.get((rate, size, n_epochs), np.nan) for rate in rates] for size in sizes])
            texts = [[NOT_RUN if np.isnan(value) else f"{value:.1f}" for value in line] for line in grid]
            if not np.isnan(grid).all():
                panels.append(
                    Panel(f"{n_epochs} epochs, {title}", [str(size) for size in sizes], grid, texts, "accuracy")
                )
    with style():
        figure = heat_maps(panels, [f"{rate:g}" for rate in rates], ("batch", "learning rate"))
        has_published = any(panel.title.endswith("published") for panel in panels)
        there = f"; published: on {published.DATASET}" if has_published else ""
        caption = f"Experiment 3: accuracy in percent after the last epoch{there}. One colour scale for all."
        return finish("architectures-grid", caption, figure)
