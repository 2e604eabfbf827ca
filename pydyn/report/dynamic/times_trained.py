"""Which images a strategy trains on how often, and whether replicates agree about which."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pydyn.report.blocks import Block
from pydyn.report.dynamic.curves import line_of
from pydyn.report.dynamic.names import PROTOCOLS
from pydyn.report.figures import PAGE_WIDTH, Drawing, finish, legend_below, style
from pydyn.report.results import Replicates, StudyResults
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number


def blocks(results: StudyResults, rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> list[Block]:
    """A drawing and its table."""
    return [_drawing(results, rows, names, protocol), _table(rows, names, protocol)]


def _drawing(results: StudyResults, rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> Drawing:
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 3.1))
        axis = figure.subplots()
        for row, name in zip(rows, names, strict=True):
            most_first = -np.sort(-row.times_trained, axis=1).mean(axis=0)
            axis.step(np.linspace(0, 100, row.n_pool), most_first, where="mid", **line_of(results, row), label=name)
        axis.set_xlabel("images of the pool, most trained first, %")
        axis.set_ylabel("times trained")
        axis.set_xlim(0, 100)
        axis.set_ylim(bottom=0)
        legend_below(figure, *axis.get_legend_handles_labels(), 2)
        caption = (
            f"How often a Run trains on each image of its pool, {PROTOCOLS[protocol]}: the images of each Run sorted, "
            "then the mean over the seeds. A flat line treats all images alike; the area below it is what was trained."
        )
        return finish(f"dynamic-times-trained-{protocol}", caption, figure)


def _table(rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> Table:
    records = []
    for row, name in zip(rows, names, strict=True):
        times = row.times_trained
        records.append(
            {
                "strategy": name,
                "setting": row.run.setting,
                "n": len(times),
                "never_percent": 100 * (times == 0).mean(),
                "fewest": times.min(),
                "median_times": np.median(times),
                "most": times.max(),
                "agreement": _agreement(row),
            }
        )
    columns = {
        "strategy": lambda row: label(row.strategy),
        "n": lambda row: Cell(number(row.n)),
        "never, %": lambda row: Cell(number(row.never_percent, 1)),
        "fewest": lambda row: Cell(number(row.fewest)),
        "median": lambda row: Cell(number(row.median_times)),
        "most": lambda row: Cell(number(row.most)),
        "agreement": lambda row: missing(NONE) if pd.isna(row.agreement) else Cell(number(row.agreement, 2)),
    }
    caption = (
        f"Times that an image of the pool was trained on, {PROTOCOLS[protocol]}, over all images and seeds. Agreement: do "
        "Runs of different seeds train most on the same images? The mean of Spearman's rank correlation over the pairs of "
        "Runs: 0 for draws that know nothing of the images, 1 for the same order; none where a Run trains on all alike."
    )
    return listing(f"dynamic-times-trained-{protocol}", caption, pd.DataFrame(records), columns)


def _agreement(row: Replicates) -> float:
    """Mean rank correlation over the pairs of replicates; NaN if there is no pair or all images count alike."""
    correlations = pd.DataFrame(row.times_trained.T).corr("spearman").to_numpy()
    pairs = correlations[np.triu_indices_from(correlations, 1)]
    return float(pairs.mean()) if pairs.size else float("nan")
