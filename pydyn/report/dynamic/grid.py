"""Experiment 1: accuracy and time for every alpha, beta and gamma (tables 2 and 3)."""

from collections.abc import Callable
from operator import attrgetter

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic.grid_maps import accuracy_map, time_map
from pydyn.report.dynamic.planes import Axes, Place, Plane, find_axes, find_planes, published_share
from pydyn.report.published import PAPERS, Paper
from pydyn.report.results import StudyResults, accuracy_percent, total_seconds
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    capitalised,
    label,
    missing,
    number,
    seconds,
    share,
    spread,
    time_share,
    with_interval,
)
from pydyn.selection.dynamic import Dynamic


def blocks(results: StudyResults) -> list[Block]:
    """Tables and heat maps of the grid."""
    planes = find_planes(results)
    axes = find_axes(planes)
    found: list[Block] = [_introduction(results)]
    for plane in planes:
        frame = _frame(plane, axes)
        found += [
            Heading(capitalised(plane.title)),
            _accuracy_table(plane, frame, axes),
            _time_table(plane, frame, axes),
        ]
    maps = [accuracy_map(planes, axes, results.data), time_map(planes, axes)]
    return [*found, Heading("Measured beside published"), *maps]


def _introduction(results: StudyResults) -> Paragraph:
    strategy = results.experiments["grid"][0].run.strategy
    assert isinstance(strategy, Dynamic)
    return Paragraph(
        f"Dynamic Training (scheme {strategy.scheme}) for every subset size α and share of replacement β. Cells are "
        "matched with the published ones by share of the pool: 25,000, 20,000 and 15,000 of 50,000 images are 50 %, "
        f"40 % and 30 %. The papers' grid is {published.DATASET}, scheme base, γ = {published.GAMMA}, up to "
        f"{published.EPOCHS} epochs, one training a cell. Published times are of one {published.DEVICE} and not "
        "comparable in seconds; what compares is the share of the time of full-pool training on the same machine. "
        "Measured seconds are wall time: a machine shared with other work makes them longer."
    )


def _frame(plane: Plane, axes: Axes) -> pd.DataFrame:
    return pd.DataFrame([_record(plane, (part, beta)) for part in axes.shares for beta in axes.betas])


def _record(plane: Plane, place: Place) -> dict[str, float | int | None]:
    record: dict[str, float | int | None] = {"alpha_share": place[0], "beta": place[1], "gamma": plane.gamma, "n": 0}
    if cell := plane.cells.get(place):
        accuracy = cell.estimate(accuracy_percent)
        total = cell.estimate(total_seconds)
        record |= {"n": accuracy.n} | spread("accuracy_percent", accuracy) | spread("seconds_total", total)
        for part in ("train", "evaluate", "select"):
            record[f"seconds_{part}_mean"] = cell.estimate(attrgetter(f"seconds.{part}")).mean
        if plane.full_seconds:
            record["time_share_of_full"] = total.mean / plane.full_seconds
    for paper in PAPERS:
        if figure := published.grid(paper).get(place):
            record[f"published_{paper}_accuracy_percent"] = figure.accuracy_percent
            record[f"published_{paper}_seconds_gtx1070"] = figure.seconds
            record[f"published_{paper}_time_share_of_full"] = published_share(paper, place)
    return record


def _accuracy_table(plane: Plane, frame: pd.DataFrame, axes: Axes) -> Table:
    def measured(record: pd.Series) -> Cell:
        return Cell(
            with_interval(record.accuracy_percent_mean, record.accuracy_percent_half_width_95, 1), f"n = {record.n:.0f}"
        )

    def reference(record: pd.Series, paper: Paper) -> Cell:
        value = record[f"published_{paper}_accuracy_percent"]
        return missing(NONE) if pd.isna(value) else Cell(number(value, 1))

    caption = (
        f"Accuracy in percent, {plane.title}: mean ± half-width of the 95 % interval. Published: {published.DATASET}."
    )
    kept = [c for c in frame.columns if "seconds" not in c and "time" not in c]
    return Table(
        f"dynamic-grid-accuracy-{plane.key}",
        caption,
        _header(axes),
        _body(plane, frame, measured, reference),
        frame[kept],
    )


def _time_table(plane: Plane, frame: pd.DataFrame, axes: Axes) -> Table:
    def measured(record: pd.Series) -> Cell:
        relative = f"{time_share(record.time_share_of_full)}, " if plane.full_seconds else ""
        text = seconds(record.seconds_total_mean, record.seconds_total_half_width_95)
        return Cell(text, f"{relative}n = {record.n:.0f}")

    def reference(record: pd.Series, paper: Paper) -> Cell:
        value = record[f"published_{paper}_seconds_gtx1070"]
        return (
            missing(NONE)
            if pd.isna(value)
            else Cell(seconds(value), time_share(record[f"published_{paper}_time_share_of_full"]))
        )

    relative = "below, its share of full-pool training" if plane.full_seconds else "full-pool training was not run"
    caption = (
        f"Seconds a training, {plane.title}: mean ± half-width of the 95 % interval; {relative}. "
        f"Published: {published.DATASET} on a {published.DEVICE}. "
        "The CSV file splits training, evaluation and selection."
    )
    kept = [c for c in frame.columns if "accuracy" not in c]
    return Table(
        f"dynamic-grid-time-{plane.key}", caption, _header(axes), _body(plane, frame, measured, reference), frame[kept]
    )


def _header(axes: Axes) -> list[str]:
    return ["α", "", *(f"β\u00a0=\u00a0{beta:g}" for beta in axes.betas)]


def _body(
    plane: Plane,
    frame: pd.DataFrame,
    measured: Callable[[pd.Series], Cell],
    reference: Callable[[pd.Series, Paper], Cell],
) -> list[list[Cell]]:
    body = []
    for part, rows in frame.groupby("alpha_share", sort=False):
        records = [record for _, record in rows.iterrows()]
        head = [label(share(part), plane.images(part), rows=1 + len(PAPERS)), label("measured")]
        body.append([*head, *(measured(r) if r.n else missing() for r in records)])
        body += [[label(f"paper {paper}"), *(reference(r, paper) for r in records)] for paper in PAPERS]
    return body
