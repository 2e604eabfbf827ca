"""Experiment 3: replicates (figure 12)."""

from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic.curves import spread_drawing
from pydyn.report.dynamic.differences import difference_frame, difference_table
from pydyn.report.dynamic.matching import compared_papers, counterparts
from pydyn.report.dynamic.names import PROTOCOLS, row_names
from pydyn.report.dynamic.notes import INTERVALS, conditions, match_note, network_note
from pydyn.report.results import StudyResults, accuracy_percent, last_accuracy_percent
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    capitalised,
    label,
    listing,
    missing,
    number,
    spread,
    with_interval,
)


def blocks(results: StudyResults) -> list[Block]:
    """Tables and a drawing for each protocol."""
    found: list[Block] = [
        Paragraph(f"The same setting from several seeds: how far apart replicates end. {network_note(results)}")
    ]
    for protocol in dict.fromkeys(result.run.protocol for result in results.experiments["robustness"]):
        rows = results.replicates("robustness", protocol)
        names = row_names(rows)
        found += [Heading(capitalised(PROTOCOLS[protocol])), _table(results, protocol)]
        if len(differences := difference_frame(rows, names)):
            found.append(difference_table(differences, protocol, "robustness"))
        found.append(spread_drawing(results, rows, names, protocol))
    return found


def _table(results: StudyResults, protocol: str) -> Table:
    rows = results.replicates("robustness", protocol)
    assert results.config.dynamic is not None
    # Only paper a published replicates.
    compared = "a" in compared_papers(results.config.dynamic)
    beside = counterparts(results, rows, "a", "figure 12") if compared else [None] * len(rows)
    records = []
    for row, name, found in zip(rows, row_names(rows), beside, strict=True):
        maxima = [100 * result.summary.accuracy.best_validation for result in row.results]
        record: dict[str, Any] = {
            "strategy": name,
            "setting": row.run.setting,
            "epochs": row.run.epochs,
            "n": len(maxima),
        }
        record |= spread("maximum_percent", row.estimate(lambda summary: 100 * summary.accuracy.best_validation))
        record |= {"maximum_percent_lowest": min(maxima), "maximum_percent_highest": max(maxima)}
        record |= spread("accuracy_percent", row.estimate(accuracy_percent))
        record |= spread("accuracy_at_last_epoch_percent", row.estimate(last_accuracy_percent))
        record["published_a_mean_of_20_maxima"] = found.figure.accuracy_percent if found else None
        record["published_a_there"] = ", ".join(["figure 12", "80 epochs", *found.there]) if found else None
        records.append(record)
    columns = {
        "strategy": lambda row: label(row.strategy),
        "epochs": lambda row: Cell(number(row.epochs)),
        "n": lambda row: Cell(number(row.n)),
        "mean of maxima": lambda row: Cell(
            with_interval(row.maximum_percent_mean, row.maximum_percent_half_width_95, 2)
        ),
        "std": lambda row: missing(NONE) if row.n == 1 else Cell(number(row.maximum_percent_std, 2)),
        "lowest to highest": lambda row: Cell(f"{row.maximum_percent_lowest:.2f} to {row.maximum_percent_highest:.2f}"),
        "reported": lambda row: Cell(with_interval(row.accuracy_percent_mean, row.accuracy_percent_half_width_95, 2)),
        "at last epoch": lambda row: Cell(
            with_interval(row.accuracy_at_last_epoch_percent_mean, row.accuracy_at_last_epoch_percent_half_width_95, 2)
        ),
        "paper a": lambda row: (
            missing(NONE)
            if pd.isna(row.published_a_mean_of_20_maxima)
            else Cell(number(row.published_a_mean_of_20_maxima, 2), row.published_a_there)
        ),
    }
    n_steering = rows[0].results[0].summary.n_validation
    matched = match_note(protocol, rows[0].n_pool, [found.basis for found in beside if found])
    there = f" Published: {published.DATASET}, 20 replicates.{matched}" if compared else ""
    caption = (
        f"Maximum over epochs of the accuracy in percent on the {n_steering:,} images that steer the selection, "
        f"{PROTOCOLS[protocol]}, and the accuracy that the protocol reports, at the best epoch and at the last. "
        f"{INTERVALS} {conditions(rows)}{there}"
    )
    return listing(f"dynamic-robustness-{protocol}", caption, pd.DataFrame(records), columns)
