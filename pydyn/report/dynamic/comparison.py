"""Experiment 2: strategies side by side (table 4, figures 8 to 11)."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic.curves import cost_drawing, epoch_drawing
from pydyn.report.dynamic.names import PROTOCOLS, full_seconds, published_row, row_names
from pydyn.report.published import PAPERS, Figure
from pydyn.report.results import Replicates, StudyResults, accuracy_percent, last_accuracy_percent, total_seconds
from pydyn.report.statistics import Estimate, paired_difference
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    capitalised,
    label,
    listing,
    missing,
    number,
    seconds,
    spread,
    time_share,
    with_interval,
)
from pydyn.selection.controls import Fixed, Full
from pydyn.training.summary import Summary


def blocks(results: StudyResults) -> list[Block]:
    """Tables, differences and curves of each protocol."""
    found: list[Block] = [
        Paragraph(
            "Strategies on the same data, with the same network and optimiser. Published figures are shown where the "
            f"papers trained the same strategy (half the pool, β = {published.BETA:g}), at their scale: "
            f"{published.DATASET}, one training a row."
        )
    ]
    for protocol in dict.fromkeys(result.run.protocol for result in results.experiments["comparison"]):
        rows = results.replicates("comparison", protocol)
        names = row_names(rows, results.data)
        frame = _frame(results, rows, names, protocol)
        found += [
            Heading(capitalised(PROTOCOLS[protocol])),
            _accuracy_table(frame, protocol),
            _cost_table(frame, protocol),
        ]
        differences = difference_frame(rows, names)
        if len(differences):
            found.append(_difference_table(differences, protocol))
        found += [epoch_drawing(rows, names, protocol), cost_drawing(results, rows, names, protocol)]
    return found


def _resamplings(summary: Summary) -> float:
    return summary.resamplings_1 + summary.resamplings_2


def _frame(results: StudyResults, rows: Sequence[Replicates], names: Sequence[str], protocol: str) -> pd.DataFrame:
    whole = full_seconds(results, protocol)
    records = []
    for row, name in zip(rows, names, strict=True):
        total = row.estimate(total_seconds)
        record: dict[str, Any] = {"strategy": name, "setting": row.run.setting, "epochs": row.run.epochs, "n": total.n}
        record |= spread("accuracy_percent", row.estimate(accuracy_percent))
        record |= spread("accuracy_at_last_epoch_percent", row.estimate(last_accuracy_percent))
        record["images_trained_mean"] = row.estimate(attrgetter("images_trained")).mean
        record["unique_images_mean"] = row.estimate(attrgetter("unique_images")).mean
        record["resamplings_mean"] = row.estimate(_resamplings).mean
        for part in ("train", "evaluate", "select"):
            record[f"seconds_{part}_mean"] = row.estimate(attrgetter(f"seconds.{part}")).mean
        record |= spread("seconds_total", total)
        record["time_share_of_full"] = total.mean / whole if whole else None
        for paper in PAPERS:
            record |= _published_columns(paper, published_row(paper, row.run.strategy, results.data))
        records.append(record)
    return pd.DataFrame(records)


def _published_columns(paper: published.Paper, figure: Figure | None) -> dict[str, Any]:
    whole = published.full(paper).seconds
    return {
        f"published_{paper}_accuracy_percent": figure.accuracy_percent if figure else None,
        f"published_{paper}_epochs": figure.epochs if figure else None,
        f"published_{paper}_place": figure.place if figure else None,
        f"published_{paper}_seconds_gtx1070": figure.seconds if figure else None,
        f"published_{paper}_time_share_of_full": figure.seconds / whole
        if figure and figure.seconds and whole
        else None,
    }


def _accuracy_table(frame: pd.DataFrame, protocol: str) -> Table:
    reported, last = {
        "paper": ("at best epoch", "at last epoch"),
        "holdout": ("test, at best epoch", "test, at last epoch"),
    }[protocol]
    columns = {
        "strategy": lambda row: label(row.strategy),
        "epochs": lambda row: Cell(number(row.epochs)),
        "n": lambda row: Cell(number(row.n)),
        reported: lambda row: Cell(with_interval(row.accuracy_percent_mean, row.accuracy_percent_half_width_95, 2)),
        last: lambda row: Cell(
            with_interval(row.accuracy_at_last_epoch_percent_mean, row.accuracy_at_last_epoch_percent_half_width_95, 2)
        ),
    } | {f"paper {paper}": lambda row, paper=paper: _published_accuracy(row, paper) for paper in PAPERS}
    caption = (
        f"Accuracy in percent, {PROTOCOLS[protocol]}: mean ± half-width of the 95 % interval. "
        f"Published: {published.DATASET}, maximum over the epochs."
    )
    kept = [
        c
        for c in frame.columns
        if "seconds" not in c and "time" not in c and "images" not in c and "resamplings" not in c
    ]
    return listing(f"dynamic-comparison-accuracy-{protocol}", caption, frame[kept], columns)


def _published_accuracy(row: Any, paper: published.Paper) -> Cell:
    value = getattr(row, f"published_{paper}_accuracy_percent")
    if pd.isna(value):
        return missing(NONE)
    epochs = getattr(row, f"published_{paper}_epochs")
    return Cell(number(value, 2), f"{getattr(row, f'published_{paper}_place')}, {epochs:.0f} epochs")


def _cost_table(frame: pd.DataFrame, protocol: str) -> Table:
    def published_cost(row: Any, paper: published.Paper) -> Cell:
        value = getattr(row, f"published_{paper}_seconds_gtx1070")
        return (
            missing(NONE)
            if pd.isna(value)
            else Cell(seconds(value), time_share(getattr(row, f"published_{paper}_time_share_of_full")))
        )

    columns = {
        "strategy": lambda row: label(row.strategy),
        "images trained": lambda row: Cell(number(row.images_trained_mean)),
        "unique images": lambda row: Cell(number(row.unique_images_mean)),
        "resam\u00adplings": lambda row: Cell(number(row.resamplings_mean, 1)),
        "train\u00a0s": lambda row: Cell(seconds(row.seconds_train_mean)),
        "evaluate\u00a0s": lambda row: Cell(seconds(row.seconds_evaluate_mean)),
        "select\u00a0s": lambda row: Cell(seconds(row.seconds_select_mean)),
        "total\u00a0s": lambda row: Cell(seconds(row.seconds_total_mean, row.seconds_total_half_width_95)),
        "of full\u00a0pool": lambda row: (
            missing() if pd.isna(row.time_share_of_full) else Cell(time_share(row.time_share_of_full))
        ),
    } | {f"paper\u00a0{paper},\u00a0s": lambda row, paper=paper: published_cost(row, paper) for paper in PAPERS}
    caption = (
        f"Cost of a training, {PROTOCOLS[protocol]}: means over the replicates, the total with its 95 % interval, and "
        f"its share of full-pool training. Seconds are wall time: a machine shared with other work makes them longer. "
        f"Published: {published.DATASET} on a {published.DEVICE}, below it the share of the paper's full-pool training."
    )
    kept = [c for c in frame.columns if "accuracy" not in c]
    return listing(f"dynamic-comparison-cost-{protocol}", caption, frame[kept], columns)


def difference_frame(rows: Sequence[Replicates], names: Sequence[str]) -> pd.DataFrame:
    """Accuracy of every strategy less that of typical training and of fixed subsets, paired by seed."""
    records = []
    for reference, reference_name in zip(rows, names, strict=True):
        if not isinstance(reference.run.strategy, Full | Fixed):
            continue
        for row, name in zip(rows, names, strict=True):
            difference = paired_difference(row.by_seed(accuracy_percent), reference.by_seed(accuracy_percent))
            # Full less fixed says the same as fixed less full.
            twice = isinstance(row.run.strategy, Full) and isinstance(reference.run.strategy, Fixed)
            if row is not reference and not twice and difference:
                records.append({"strategy": name, "against": reference_name} | _difference_columns(difference))
    return pd.DataFrame(records)


def _difference_columns(difference: Estimate) -> dict[str, Any]:
    low, high = difference.interval or (None, None)
    return {
        "pairs": difference.n,
        "difference_points": difference.mean,
        "interval_low": low,
        "interval_high": high,
        "verdict": difference.verdict,
    }


def _difference_table(frame: pd.DataFrame, protocol: str) -> Table:
    columns = {
        "strategy": lambda row: label(row.strategy),
        "against": lambda row: label(row.against),
        "pairs": lambda row: Cell(number(row.pairs)),
        "difference, points": lambda row: Cell(number(row.difference_points, 2, sign=True)),
        "95 % interval": lambda row: (
            missing("no interval")
            if pd.isna(row.interval_low)
            else Cell(f"{number(row.interval_low, 2, sign=True)} to {number(row.interval_high, 2, sign=True)}")
        ),
        "verdict": lambda row: label(row.verdict),
    }
    caption = (
        f"Differences of accuracy in points, {PROTOCOLS[protocol]}, paired by seed. A difference holds if its own 95 % "
        "interval leaves out zero; intervals are not adjusted for the number of comparisons."
    )
    return listing(f"dynamic-comparison-differences-{protocol}", caption, frame, columns)
