"""Which trainings learn: tables and pictures beside the thesis's."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from pydyn.report.figures import Drawing, Panel, finish, heat_maps, style
from pydyn.report.shapes.read import Combination, Pooled, ShapesResults, ends_of, pooled
from pydyn.report.statistics import share_interval
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number
from pydyn.training.population_summary import LEARNT_NAME


def counts_table(dataset: str, combinations: Sequence[Combination]) -> Table:
    """Every combination: how its trainings end."""
    ends = ends_of(combinations[0].summary.n_classes)
    records = []
    for one in combinations:
        low, high = share_interval(one.learnt, len(one.ends))
        records.append(
            {
                "filters": one.run.filters,
                "epochs": one.run.epochs,
                "parameters": one.summary.n_parameters,
                "published_n": len(one.published),
                **{f"published_{end}": one.published.count(end) for end in ends},
                "n": len(one.ends),
                **{end: one.ends.count(end) for end in ends},
                "learnt_share_low": low,
                "learnt_share_high": high,
                "dead_filters_share": _dead_share(one),
            }
        )
    frame = pd.DataFrame(records)
    shown = frame.rename(columns={end: f"end{place}" for place, end in enumerate(ends)}).rename(
        columns={f"published_{end}": f"told{place}" for place, end in enumerate(ends)}
    )
    columns = {
        "filters": lambda row: label(row.filters, f"{row.parameters:,} parameters"),
        "epochs": lambda row: Cell(number(row.epochs)),
        "published: learnt": lambda row: _of(row.told0, row.published_n),
        f"published: {', '.join(ends[1:])}": lambda row: _list(row, "told", len(ends), row.published_n),
        "learnt": lambda row: _of(row.end0, row.n),
        "95 % interval, %": lambda row: Cell(f"{100 * row.learnt_share_low:.0f} to {100 * row.learnt_share_high:.0f}"),
        ", ".join(ends[1:]): lambda row: _list(row, "end", len(ends), row.n),
        "dead filters, %": lambda row: (
            missing(NONE) if pd.isna(row.dead_filters_share) else Cell(number(100 * row.dead_filters_share, 0))
        ),
    }
    caption = (
        f"{dataset}: how trainings end after the last epoch, on {number(combinations[0].summary.n_validation)} "
        f"validation images. Learnt: at least 99 % right; {', '.join(ends[1:-2])}: so many of the classes right; "
        "other: between. Intervals are Wilson's. Dead filters: 0 on every validation image, mean over the members that did "
        "not diverge."
    )
    table = listing(f"shapes-trainings-{dataset}", caption, shown, columns)
    return Table(table.name, caption, table.header, table.body, frame, folded=len(records) > 12)


def _of(count: int, n: int) -> Cell:
    return Cell(f"{count} of {n}") if n else missing(NONE)


def _list(row: Any, prefix: str, n_ends: int, n: int) -> Cell:
    return Cell(", ".join(str(getattr(row, f"{prefix}{place}")) for place in range(1, n_ends))) if n else missing(NONE)


def _dead_share(one: Combination) -> float:
    shares = [one.summary.dead_share(member) for member in one.summary.members]
    return float(np.mean([share for share in shares if share == share] or [np.nan]))


def totals_table(results: ShapesResults) -> Table:
    """All combinations of a data set together, beside the thesis's 19 of 57 and 8 of 69."""
    records: list[dict[str, Any]] = []
    for dataset, every in results.of_two_layers():
        told = [one for one in every if one.published]
        ends = [end for one in told for end in one.published]
        published = Pooled(ends.count(LEARNT_NAME), len(ends), len(ends))
        found = {"published": (told, published)} if told else {}
        if told and (first := pooled(told, as_many=True)).n == len(ends):
            found["measured, as many of each combination"] = told, first
        found["measured, all seeds"] = every, pooled(every)
        for what, (combinations, trainings) in found.items():
            low, high = trainings.interval
            records.append(
                {
                    "dataset": dataset,
                    "trainings": what,
                    "combinations": len(combinations),
                    "n": trainings.n,
                    "independent": trainings.independent,
                    "learnt": trainings.learnt,
                    "learnt_percent": 100 * trainings.learnt / trainings.n,
                    "interval_low": 100 * low,
                    "interval_high": 100 * high,
                    "p_value_against_published": (
                        trainings.differs_from(published) if told and what != "published" else None
                    ),
                }
            )
    columns = {
        "data set": lambda row: label(row.dataset),
        "trainings": lambda row: label(row.trainings, f"{row.combinations} combinations"),
        "learnt": lambda row: Cell(f"{row.learnt} of {row.n}"),
        "as independent": lambda row: Cell(number(row.independent)),
        "%": lambda row: Cell(number(row.learnt_percent, 1)),
        "95 % interval": lambda row: Cell(f"{row.interval_low:.1f} to {row.interval_high:.1f}"),
        "p": lambda row: (
            missing(NONE) if pd.isna(row.p_value_against_published) else Cell(f"{row.p_value_against_published:.2g}")
        ),
    }
    caption = (
        "Trainings that learn, all combinations of filters together. Those of one seed see the images in one order, some begin "
        "with the same weights, and they end alike more often than by chance. As independent: how many independent trainings "
        "tell as much, by how far the seeds lie apart (Kish's effective size), fewer where few seeds leave that open. Wilson's "
        "intervals and p (Fisher's exact test against the published counts) are of these. “As many of each combination”: the "
        "first seeds, as many as the thesis trained of it."
    )
    return listing("shapes-totals", caption, pd.DataFrame(records), columns)


def one_layer_table(combinations: Sequence[Combination]) -> Table:
    """Networks of one layer."""
    records = [
        {
            "dataset": one.run.dataset,
            "filters": one.run.filters,
            "epochs": one.run.epochs,
            "n": len(one.ends),
            "learnt": one.learnt,
            "accuracy_percent": 100 * float(np.mean([member.validation_accuracy for member in one.summary.members])),
            "best_percent": 100 * max(member.validation_accuracy for member in one.summary.members),
            "published_percent": 100 * one.told[0] if one.told else None,
        }
        for one in combinations
    ]
    columns = {
        "data set": lambda row: label(row.dataset),
        "filters": lambda row: Cell(row.filters),
        "epochs": lambda row: Cell(number(row.epochs)),
        "learnt": lambda row: Cell(f"{row.learnt} of {row.n}"),
        "mean accuracy, %": lambda row: Cell(number(row.accuracy_percent, 1)),
        "best, %": lambda row: Cell(number(row.best_percent, 1)),
        "published, %": lambda row: (
            missing(NONE) if pd.isna(row.published_percent) else Cell(number(row.published_percent, 1))
        ),
    }
    caption = "Networks of one layer, after the last epoch, on the validation images. Published: one training each."
    return listing("shapes-one-layer", caption, pd.DataFrame(records), columns)


def shares_drawing(dataset: str, combinations: Sequence[Combination]) -> Drawing:
    """Share of trainings that learn, first layer by second, measured beside published."""
    second = sorted({one.run.layers[1] for one in combinations})
    panels = []
    for epochs, group in groupby(sorted(combinations, key=lambda one: one.run.epochs), key=lambda one: one.run.epochs):
        by_filters = {one.run.layers: one for one in group}
        first = sorted({layers[0] for layers in by_filters})
        for title, published in (("measured", False), ("published", True)):
            grid = np.full((len(first), len(second)), np.nan)
            texts = [["–"] * len(second) for _ in first]
            for (rows, columns), one in by_filters.items():
                ends = list(one.published) if published else one.ends
                if ends:
                    place = first.index(rows), second.index(columns)
                    grid[place] = ends.count(LEARNT_NAME) / len(ends)
                    texts[place[0]][place[1]] = f"{ends.count(LEARNT_NAME)}/{len(ends)}"
            if not np.isnan(grid).all():
                panels.append(Panel(f"{epochs} epochs, {title}", [str(n) for n in first], grid, texts, "share", (0, 1)))
    with style():
        figure = heat_maps(panels, [str(n) for n in second], ("layer 1", "filters of layer 2"))
        caption = f"{dataset}: trainings that learn, of those run. One colour scale; –: no such training."
        return finish(f"shapes-shares-{dataset}", caption, figure)
