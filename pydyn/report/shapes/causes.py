"""Why trainings get stuck: initialiser, optimiser, learning rate, range of the pixels, loss, ReLU on the outputs."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pydyn.report.figures import (
    PAGE_WIDTH,
    Drawing,
    Panel,
    finish,
    frame_epochs,
    heat_maps,
    legend_below,
    line_style,
    style,
)
from pydyn.report.shapes.read import ShapesResults, ends_of
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.history import read_history
from pydyn.training.population_summary import DIVERGED_NAME, LEARNT_NAME, MemberEpoch, PopulationSummary

# What the loss of an image weighs whose own class has a probability below Keras's epsilon.
CLIPPED_LOSS = -math.log(1e-7)

FACTORS: dict[str, Callable[[PopulationRun], str]] = {
    "pixels": lambda run: {"bytes": "0 to 255", "unit": "0 to 1"}[run.pixels],
    "loss": lambda run: {"clipped": "clipped (Keras to 2.2)", "exact": "not clipped (since)"}[run.loss],
    "outputs": lambda run: "ReLU before the softmax" if run.output_relu else "linear",
    "optimiser": lambda run: run.optimiser,
    "learning rate": lambda run: f"{run.learning_rate:g}",
    "initialiser": lambda run: run.initialiser,
}

Place = tuple[str, str, int]


def cell_name(run: PopulationRun) -> str:
    """Column of the heat map."""
    relu = ", ReLU" if run.output_relu else ""
    return f"{run.pixels}, {run.loss}{relu}"


def causes_drawing(place: Place, summaries: Sequence[PopulationSummary]) -> Drawing:
    """Every combination."""
    columns = list(dict.fromkeys(cell_name(summary.run) for summary in summaries))
    rows = list(dict.fromkeys(_row_name(summary.run) for summary in summaries))
    grid = np.full((len(rows), len(columns)), np.nan)
    texts = [[""] * len(columns) for _ in rows]
    for summary in summaries:
        learnt, n = learnt_of(summary), len(summary.members)
        at = rows.index(_row_name(summary.run)), columns.index(cell_name(summary.run))
        grid[at] = learnt / n
        texts[at[0]][at[1]] = f"{learnt}/{n}"
    wrapped = [name.replace(", ", "\n") for name in columns]
    dataset, filters, epochs = place
    with style():
        figure = heat_maps([Panel("trainings that learn", rows, grid, texts, "share", (0, 1))], wrapped, ("", ""))
        caption = (
            f"{filters} on {dataset}, {epochs} epochs: trainings that learn, for every combination. Columns: pixels of "
            "0 to 255 (bytes) or 0 to 1 (unit); loss clipped, as by Keras up to 2.2, or exact; with a ReLU on the "
            "outputs or without."
        )
        return finish(f"shapes-causes-{dataset}-{filters}-e{epochs}", caption, figure)


def _row_name(run: PopulationRun) -> str:
    return f"{run.optimiser} {run.learning_rate:g}, {run.initialiser}"


def learnt_of(summary: PopulationSummary) -> int:
    """Members that learnt."""
    return sum(summary.end(member) == LEARNT_NAME for member in summary.members)


def factors_table(place: Place, summaries: Sequence[PopulationSummary]) -> Table | None:
    """Each factor alone, over all combinations of the others; None if none varies."""
    ends = ends_of(summaries[0].n_classes)
    records: list[dict[str, Any]] = []
    for factor, value in FACTORS.items():
        levels = list(dict.fromkeys(value(summary.run) for summary in summaries))
        for level in levels if len(levels) > 1 else []:
            members = [
                (summary, member) for summary in summaries if value(summary.run) == level for member in summary.members
            ]
            counted = [summary.end(member) for summary, member in members]
            records.append(
                {
                    "factor": factor,
                    "level": level,
                    "n": len(counted),
                    **{end: counted.count(end) for end in ends},
                    "learnt_percent": 100 * counted.count(LEARNT_NAME) / len(counted),
                    "dead_filters_percent": _mean(100 * summary.dead_share(member) for summary, member in members),
                    "dead_outputs_mean": _mean(
                        math.nan if end == DIVERGED_NAME else member.dead_outputs
                        for end, (_, member) in zip(counted, members, strict=True)
                    ),
                }
            )
    if not records:
        return None
    frame = pd.DataFrame(records)
    shown = frame.rename(columns={end: f"end{position}" for position, end in enumerate(ends)})
    columns: dict[str, Callable[[Any], Cell]] = {
        "": lambda row: label(row.factor),
        "value": lambda row: label(row.level),
        "learnt, %": lambda row: Cell(number(row.learnt_percent, 1)),
        "n": lambda row: Cell(number(row.n)),
        **{end: _count(f"end{position}") for position, end in enumerate(ends) if position},
        "dead filters, %": lambda row: _known(row.dead_filters_percent, 1),
        "dead outputs": lambda row: _known(row.dead_outputs_mean, 2),
    }
    dataset, filters, epochs = place
    caption = (
        f"{filters} on {dataset}, {epochs} epochs: each factor that was varied, over all combinations with others that were "
        "run; no intervals, as these trainings are of many settings and share seeds. Dead filters are 0 on every validation "
        "image, dead outputs above 0 for none; both at the last epoch, mean over the trainings that did not diverge."
    )
    table = listing(f"shapes-factors-{dataset}-{filters}-e{epochs}", caption, shown, columns)
    return Table(table.name, caption, table.header, table.body, frame)


def _count(name: str) -> Callable[[Any], Cell]:
    return lambda row: Cell(number(getattr(row, name)))


def _known(value: float, decimals: int) -> Cell:
    return missing(NONE) if math.isnan(value) else Cell(number(value, decimals))


def _mean(values: Iterable[float]) -> float:
    """Without those that are NaN; NaN if all are."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def dying_drawing(place: Place, summaries: Sequence[PopulationSummary], results: ShapesResults) -> Drawing:
    """Dead filters and outputs by epoch, of trainings by how they end. What diverged is not dead, but worse."""
    series: dict[str, list[list[tuple[float, float, float]]]] = {}
    for summary in summaries:
        ends = {member.seed: summary.end(member) for member in summary.members}
        rows = read_history(summary.run.directory(results.folder) / "history.csv", MemberEpoch)
        first, *second = summary.run.layers
        curves: dict[int, list[tuple[float, float, float]]] = {}
        for row in rows:
            shares = (
                row.dead_filters_1 / first,
                row.dead_filters_2 / second[0] if second else 0.0,
                row.dead_outputs / summary.n_classes,
            )
            curves.setdefault(row.seed, []).append(shares)
        for seed, curve in curves.items():
            series.setdefault(ends[seed], []).append(curve)
    order = [end for end in ends_of(summaries[0].n_classes) if end in series and end != DIVERGED_NAME]
    dataset, filters, epochs = place
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.7))
        axes = figure.subplots(1, 3, sharey=True)
        for column, (axis, title) in enumerate(zip(axes, ("layer 1", "layer 2", "outputs"), strict=True)):
            for position, end in enumerate(order):
                curve = 100 * np.mean([[shares[column] for shares in one] for one in series[end]], axis=0)
                axis.plot(
                    np.arange(1, len(curve) + 1), curve, label=f"{end} (n = {len(series[end])})", **line_style(position)
                )
            frame_epochs(axis, epochs)
            axis.set_title(f"{title}, dead in %")
            axis.set_xlabel("epoch")
        axes[0].set_ylim(0, max(10, axes[0].get_ylim()[1]))
        handles, labels = axes[0].get_legend_handles_labels()
        legend_below(figure, handles, labels, 4)
        caption = (
            f"{filters} on {dataset}: share of filters that are 0 on every validation image, and of outputs above 0 "
            "for none, by epoch, mean over all trainings of all settings that end alike; without those that diverged."
        )
        return finish(f"shapes-dying-{dataset}-{filters}-e{epochs}", caption, figure)


def causes_in_words(place: Place, summaries: Sequence[PopulationSummary]) -> Iterator[str]:
    """What decides, a plain sentence each."""
    dataset, filters, _ = place
    always = [summary for summary in summaries if learnt_of(summary) == len(summary.members)]
    yield (
        f"{filters} on {dataset}: every training learns under {len(always)} of {len(summaries)} settings"
        + (f", among them {_named(always[0].run)}" if always else "")
    )
    for pixels in dict.fromkeys(summary.run.pixels for summary in summaries):
        for loss in dict.fromkeys(summary.run.loss for summary in summaries):
            members = [
                summary.end(member)
                for summary in summaries
                if (summary.run.pixels, summary.run.loss, summary.run.output_relu) == (pixels, loss, False)
                for member in summary.members
            ]
            if members:
                yield (
                    f"{filters} on {dataset}, pixels {FACTORS_PIXELS[pixels]}, loss {loss}, linear outputs: "
                    f"{members.count(LEARNT_NAME)} of {len(members)} trainings learn"
                )
    clipped, n_stuck = at_the_clip(summaries)
    if n_stuck:
        yield (
            f"{filters} on {dataset}: {clipped} of {n_stuck} stuck trainings with a clipped loss and linear outputs "
            f"end with a training loss of {CLIPPED_LOSS:.2f} for every image that is wrong, to within 1 %: the loss of "
            "the clip itself, beyond which an image has no gradient that would set it right"
        )


FACTORS_PIXELS = {"bytes": "of 0 to 255", "unit": "of 0 to 1"}


def at_the_clip(summaries: Sequence[PopulationSummary]) -> tuple[int, int]:
    """Stuck trainings with a clipped loss and linear outputs whose loss is that of the clip, and all of these."""
    stuck = [
        member
        for summary in summaries
        if summary.run.loss == "clipped" and not summary.run.output_relu
        for member in summary.members
        if "/" in summary.end(member)
    ]
    at_clip = [
        member
        for member in stuck
        if math.isclose(member.train_loss, (1 - member.train_accuracy) * CLIPPED_LOSS, rel_tol=0.01)
    ]
    return len(at_clip), len(stuck)


def _named(run: PopulationRun) -> str:
    return f"{_row_name(run)}, {cell_name(run)}"
