"""Experiment 1: accuracy and time for every alpha, beta and gamma (tables 2 and 3)."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pandas as pd

from pydyn.config.studies import DynamicStudy
from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic import not_run
from pydyn.report.dynamic.grid_maps import accuracy_map, time_map
from pydyn.report.dynamic.matching import compared_papers, grid_papers
from pydyn.report.dynamic.names import mean_seconds
from pydyn.report.dynamic.notes import INTERVALS, conditions, match_note, network_note, sampling_points
from pydyn.report.dynamic.planes import GridRow, Plane, find_planes, published_figure
from pydyn.report.published import Paper
from pydyn.report.results import StudyResults, accuracy_percent, last_accuracy_percent, total_seconds
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    capitalised,
    label,
    missing,
    number,
    seconds,
    spread,
    time_share,
    with_interval,
)


def blocks(results: StudyResults) -> list[Block]:
    """Tables and heat maps of the grid."""
    planes = find_planes(results)
    study = results.config.dynamic
    assert study is not None
    beside = any(plane.papers for plane in planes)
    found: list[Block] = [_introduction(study, beside, network_note(results))]
    for plane in planes:
        frame = _frame(plane)
        found += [Heading(capitalised(plane.title)), _accuracy_table(plane, frame), _time_table(plane, frame)]
    maps = [accuracy_map(planes, results.data), time_map(planes)]
    found += [Heading("Measured beside published" if beside else "As heat maps"), *maps]
    others = [paper for paper in compared_papers(study) if paper not in grid_papers(study)]
    for paper in others:
        found += [Heading(f"Not run: the grid of paper {paper}"), not_run.grid_table([paper])]
    return found


def _introduction(study: DynamicStudy, beside: bool, network: str) -> Paragraph:
    assert study.grid is not None
    shared = "Measured seconds are wall time: a machine shared with other work makes them longer."
    scheme = f"Dynamic Training (scheme {study.grid.scheme}) for every subset size α and share of replacement β."
    if not beside:
        return Paragraph(f"{scheme} {network} {shared}")
    (paper,) = grid_papers(study)
    return Paragraph(
        f"{scheme} A published cell stands beside the measured one with the same count of images, if there are as many "
        "training images as in the papers, else beside the one with the same share of its own pool: 25,000, 20,000 and "
        f"15,000 of 50,000 images are 50 %, 40 % and 30 %. The grid of this scheme is paper {paper}'s: {published.DATASET}, "
        f"γ = {published.GAMMA}, up to {published.EPOCHS} epochs, one Run a cell. {network} Published times "
        f"are of one {published.DEVICE} and not comparable in seconds; what compares is the share of the full pool's "
        f"time. {shared}"
    )


def _frame(plane: Plane) -> pd.DataFrame:
    return pd.DataFrame([_record(plane, row, beta) for row in plane.rows for beta in plane.betas])


def _record(plane: Plane, row: GridRow, beta: float) -> dict[str, Any]:
    cell = plane.cells.get((row.alpha, beta))
    record: dict[str, Any] = {
        "alpha": row.alpha,
        "images": cell.n_subset if cell else None,
        "pool": plane.n_pool,
        "alpha_share": row.order,
        "beta": beta,
        "gamma": plane.gamma,
        "n": len(cell.results) if cell else 0,
    }
    if cell:
        record |= spread("accuracy_percent", cell.estimate(accuracy_percent))
        record["accuracy_sampling_half_width_95"] = sampling_points(cell)
        record |= spread("accuracy_at_last_epoch_percent", cell.estimate(last_accuracy_percent))
        record |= spread("seconds_total", cell.estimate(total_seconds))
        for part in ("train", "evaluate", "select"):
            record |= spread(f"seconds_{part}", cell.estimate(attrgetter(f"seconds.{part}")))
        if whole := mean_seconds(plane.whole):
            relative = cell.estimate(lambda summary: summary.seconds.total / whole)
            record |= spread("time_share_of_full", relative)
    record |= {"published_alpha": row.published, "published_matched_by": row.basis}
    for paper in plane.papers:
        figure = published_figure(plane, row, beta, paper)
        record[f"published_{paper}_accuracy_percent"] = figure.accuracy_percent if figure else None
        record[f"published_{paper}_seconds_gtx1070"] = figure.seconds if figure else None
        record[f"published_{paper}_time_share_of_full"] = published.time_share(figure, paper)
    return record


def _accuracy_table(plane: Plane, frame: pd.DataFrame) -> Table:
    def measured(record: pd.Series) -> Cell:
        best, last = (
            with_interval(record[f"{name}_mean"], record[f"{name}_half_width_95"], 1)
            for name in ("accuracy_percent", "accuracy_at_last_epoch_percent")
        )
        return Cell(best, f"last {last}, n = {record.n:.0f}")

    def reference(record: pd.Series, paper: Paper) -> Cell:
        value = record[f"published_{paper}_accuracy_percent"]
        return missing(NONE) if pd.isna(value) else Cell(number(value, 1))

    caption = (
        f"Accuracy in percent, {plane.title}, at the best epoch; below it at the last. {INTERVALS} "
        f"{conditions(list(plane.cells.values()))} {_published(plane)}"
    )
    kept = [c for c in frame.columns if "seconds" not in c and "time" not in c]
    body = _body(plane, frame, measured, reference)
    return Table(f"dynamic-grid-accuracy-{plane.key}", caption, _header(plane), body, frame[kept])


def _time_table(plane: Plane, frame: pd.DataFrame) -> Table:
    def measured(record: pd.Series) -> Cell:
        relative = f"{time_share(record.time_share_of_full_mean)}, " if plane.whole else ""
        text = seconds(record.seconds_total_mean, record.seconds_total_half_width_95)
        return Cell(text, f"{relative}n = {record.n:.0f}")

    def reference(record: pd.Series, paper: Paper) -> Cell:
        value = record[f"published_{paper}_seconds_gtx1070"]
        return (
            missing(NONE)
            if pd.isna(value)
            else Cell(seconds(value), time_share(record[f"published_{paper}_time_share_of_full"]))
        )

    relative = (
        f"Below: the share of a Run on the full pool ({plane.whole.run.epochs} epochs)."
        if plane.whole
        else "The full pool was not run."
    )
    caption = (
        f"Seconds of a Run, {plane.title}. {INTERVALS} {relative} {_published(plane, f' on a {published.DEVICE}')} The "
        "CSV file splits training, evaluation and selection."
    )
    kept = [c for c in frame.columns if "accuracy" not in c]
    body = _body(plane, frame, measured, reference)
    return Table(f"dynamic-grid-time-{plane.key}", caption, _header(plane), body, frame[kept])


def _published(plane: Plane, where: str = "") -> str:
    """What the rows of the papers are, or where they are."""
    if plane.papers:
        matched = match_note(plane.protocol, plane.n_pool, [row.basis for row in plane.rows])
        gamma = "" if plane.gamma == published.GAMMA else f", γ = {published.GAMMA}"
        return f"Published: {published.DATASET}{where}{gamma}.{matched}"
    return plane.without


def _header(plane: Plane) -> list[str]:
    return ["α", "", *(f"β\u00a0=\u00a0{beta:g}" for beta in plane.betas)]


def _body(
    plane: Plane,
    frame: pd.DataFrame,
    measured: Callable[[pd.Series], Cell],
    reference: Callable[[pd.Series, Paper], Cell],
) -> list[list[Cell]]:
    records = [record for _, record in frame.iterrows()]
    body = []
    for position, row in enumerate(plane.rows):
        mine = records[position * len(plane.betas) :][: len(plane.betas)]
        head = [label(row.size, row.of_what, rows=1 + len(plane.papers)), label("measured")]
        body.append([*head, *(measured(r) if r.n else missing() for r in mine)])
        body += [[label(f"paper {paper}"), *(reference(r, paper) for r in mine)] for paper in plane.papers]
    return body
