"""Experiment 2: strategies side by side (table 4, figures 8 to 11)."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic import times_trained
from pydyn.report.dynamic.budgets import budget_frame, budget_table
from pydyn.report.dynamic.curves import cost_drawing, epoch_drawing
from pydyn.report.dynamic.differences import difference_frame, difference_table, images_trained
from pydyn.report.dynamic.matching import Counterpart, compared_papers, counterparts
from pydyn.report.dynamic.names import PROTOCOLS, full_pool, mean_seconds, row_names
from pydyn.report.dynamic.notes import INTERVALS, conditions, match_note, network_note, sampling_points
from pydyn.report.published import Paper
from pydyn.report.results import Replicates, StudyResults, accuracy_percent, last_accuracy_percent, total_seconds
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    beside,
    capitalised,
    decimals_of_seconds,
    label,
    listing,
    missing,
    number,
    seconds,
    share,
    spread,
    time_share,
    with_interval,
)
from pydyn.training.summary import Summary

_COST = ("seconds", "time", "images_trained", "unique_images", "resamplings")


def blocks(results: StudyResults) -> list[Block]:
    """Tables, differences and curves of each protocol."""
    found: list[Block] = [
        Paragraph(
            "Strategies on the same data, with the same network and optimiser. Published figures are shown where the "
            f"papers trained the same strategy (half the pool, β = {published.BETA:g}), at their scale: "
            f"{published.DATASET}, one Run a row; beside the row of the same epochs, or of this study's where no row "
            f"has the same. {network_note(results)}"
        )
    ]
    for protocol in dict.fromkeys(result.run.protocol for result in results.experiments["comparison"]):
        rows = results.replicates("comparison", protocol)
        names = row_names(rows)
        frame, matched = _frame(results, rows, names, protocol)
        found += [
            Heading(capitalised(PROTOCOLS[protocol])),
            _accuracy_table(results, frame, rows, protocol, matched),
            _cost_table(results, frame, protocol),
        ]
        differences = difference_frame(rows, names)
        if len(differences):
            found.append(difference_table(differences, protocol, "comparison"))
        budgets = budget_frame(rows, names)
        if len(budgets):
            found.append(budget_table(budgets, protocol))
        found += [epoch_drawing(rows, names, protocol), cost_drawing(results, rows, names, protocol)]
        found += times_trained.blocks(results, rows, names, protocol)
    return found


def _resamplings(summary: Summary) -> float:
    return summary.resamplings_1 + summary.resamplings_2


def _frame(
    results: StudyResults, rows: Sequence[Replicates], names: Sequence[str], protocol: str
) -> tuple[pd.DataFrame, str]:
    """The values, and how published figures were matched."""
    assert results.config.dynamic is not None
    beside_rows = {paper: counterparts(results, rows, paper) for paper in compared_papers(results.config.dynamic)}
    whole = mean_seconds(full_pool(results, protocol))
    records = []
    for position, (row, name) in enumerate(zip(rows, names, strict=True)):
        record: dict[str, Any] = {
            "strategy": name,
            "setting": row.run.setting,
            "epochs": row.run.epochs,
            # On average: InfoBatch trains on more or less of the pool from epoch to epoch.
            "images": row.estimate(images_trained).mean / row.run.epochs,
            "pool": row.n_pool,
            "share_of_pool_trained": row.estimate(images_trained).mean / (row.run.epochs * row.n_pool),
            "n": len(row.results),
        }
        record |= spread("accuracy_percent", row.estimate(accuracy_percent))
        record["accuracy_sampling_half_width_95"] = sampling_points(row)
        record |= spread("accuracy_at_last_epoch_percent", row.estimate(last_accuracy_percent))
        record |= spread("images_trained", row.estimate(images_trained))
        record |= spread("unique_images", row.estimate(attrgetter("unique_images")))
        record |= spread("resamplings", row.estimate(_resamplings))
        for part in ("train", "evaluate", "select"):
            record |= spread(f"seconds_{part}", row.estimate(attrgetter(f"seconds.{part}")))
        record |= spread("seconds_total", row.estimate(total_seconds))
        if whole:
            record |= spread("time_share_of_full", row.estimate(lambda summary: summary.seconds.total / whole))
        for paper, found in beside_rows.items():
            record |= _published_columns(paper, found[position])
        records.append(record)
    bases = [found.basis for column in beside_rows.values() for found in column if found]
    return pd.DataFrame(records), match_note(protocol, rows[0].n_pool, bases)


def _published_columns(paper: Paper, found: Counterpart | None) -> dict[str, Any]:
    figure = found.figure if found else None
    return {
        f"published_{paper}_accuracy_percent": figure.accuracy_percent if figure else None,
        f"published_{paper}_epochs": figure.epochs if figure else None,
        f"published_{paper}_place": figure.place if figure else None,
        f"published_{paper}_there": ", ".join(found.there) if found else None,
        f"published_{paper}_matched_by": found.basis if found else None,
        f"published_{paper}_seconds_gtx1070": figure.seconds if figure else None,
        f"published_{paper}_time_share_of_full": published.time_share(figure, paper),
    }


def _accuracy_table(
    results: StudyResults, frame: pd.DataFrame, rows: Sequence[Replicates], protocol: str, matched: str
) -> Table:
    assert results.config.dynamic is not None
    reported, last = {
        "paper": ("at best epoch", "at last epoch"),
        "holdout": ("test, at best epoch", "test, at last epoch"),
    }[protocol]
    papers = compared_papers(results.config.dynamic)
    columns = {
        "strategy": lambda row: label(row.strategy),
        "images an epoch": lambda row: Cell(number(row.images)),
        "epochs": lambda row: Cell(number(row.epochs)),
        "n": lambda row: Cell(number(row.n)),
        reported: lambda row: Cell(with_interval(row.accuracy_percent_mean, row.accuracy_percent_half_width_95, 2)),
        last: lambda row: Cell(
            with_interval(row.accuracy_at_last_epoch_percent_mean, row.accuracy_at_last_epoch_percent_half_width_95, 2)
        ),
    } | {f"paper {paper}": lambda row, paper=paper: _published_accuracy(row, paper) for paper in papers}
    there = f" Published: {published.DATASET}, maximum over the epochs.{matched}" if papers else ""
    caption = f"Accuracy in percent, {PROTOCOLS[protocol]}. {INTERVALS} {conditions(rows)}{there}"
    kept = [c for c in frame.columns if not any(word in c for word in _COST)]
    return listing(f"dynamic-comparison-accuracy-{protocol}", caption, frame[kept], columns)


def _published_accuracy(row: Any, paper: Paper) -> Cell:
    value = getattr(row, f"published_{paper}_accuracy_percent")
    if pd.isna(value):
        return missing(NONE)
    place, epochs = (getattr(row, f"published_{paper}_{name}") for name in ("place", "epochs"))
    there = getattr(row, f"published_{paper}_there")
    return Cell(number(value, 2), ", ".join([place, f"{epochs:.0f} epochs", *([there] if there else [])]))


def _cost_table(results: StudyResults, frame: pd.DataFrame, protocol: str) -> Table:
    assert results.config.dynamic is not None

    def counted(name: str, decimals: int) -> Any:
        return lambda row: Cell(
            number(getattr(row, f"{name}_mean"), decimals), beside(getattr(row, f"{name}_half_width_95"), decimals)
        )

    def timed(part: str) -> Any:
        def cell(row: Any) -> Cell:
            mean = getattr(row, f"seconds_{part}_mean")
            return Cell(seconds(mean), beside(getattr(row, f"seconds_{part}_half_width_95"), decimals_of_seconds(mean)))

        return cell

    def relative(row: Any) -> Cell:
        if whole is None:
            return missing()
        points = beside(100 * row.time_share_of_full_half_width_95, 0) if row.n > 1 else ""
        return Cell(time_share(row.time_share_of_full_mean), points)

    def published_cost(row: Any, paper: Paper) -> Cell:
        value = getattr(row, f"published_{paper}_seconds_gtx1070")
        return (
            missing(NONE)
            if pd.isna(value)
            else Cell(seconds(value), time_share(getattr(row, f"published_{paper}_time_share_of_full")))
        )

    whole, papers = full_pool(results, protocol), compared_papers(results.config.dynamic)
    columns = {
        "strategy": lambda row: label(row.strategy, f"n = {row.n}"),
        "images trained": counted("images_trained", 0),
        "saved": lambda row: Cell(share(1 - row.share_of_pool_trained)),
        "unique images": counted("unique_images", 0),
        "resam\u00adplings": counted("resamplings", 1),
        "train\u00a0s": timed("train"),
        "evaluate\u00a0s": timed("evaluate"),
        "select\u00a0s": timed("select"),
        "total\u00a0s": timed("total"),
        "of full\u00a0pool": relative,
    } | {f"paper\u00a0{paper},\u00a0s": lambda row, paper=paper: published_cost(row, paper) for paper in papers}
    full = f" (full pool: mean of the Runs of {whole.run.epochs} epochs, taken as exact)" if whole else ""
    there = (
        f" Published: {published.DATASET} on a {published.DEVICE}, below it the share of the paper's full-pool training."
        if papers
        else ""
    )
    caption = (
        f"Cost of a Run, {PROTOCOLS[protocol]}: means, below them the half-width of the 95 % interval where replicates "
        f"vary, and the share of the full pool's time{full}. Saved: the share of images that were not trained, of the whole "
        "pool in every epoch; InfoBatch saves what its losses let it. Resamplings: a resampling after the last epoch counts, "
        "though nothing is trained on its images. Seconds are wall time: a machine shared with other work makes them longer."
        f"{there}"
    )
    kept = [c for c in frame.columns if "accuracy" not in c]
    return listing(f"dynamic-comparison-cost-{protocol}", caption, frame[kept], columns)
