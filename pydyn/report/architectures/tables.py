"""Tables of the study `architectures`, measured beside published."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.architectures.rows import Row, accuracies, collapsed, dead_percent, difference, losses
from pydyn.report.paired import difference_columns, interval_cell
from pydyn.report.results import Replicates, StudyResults, reported_images, total_seconds
from pydyn.report.tables import (
    NONE,
    Cell,
    Table,
    label,
    listing,
    missing,
    number,
    seconds,
    spread,
    with_interval,
)


def _measured(row: Replicates) -> dict[str, Any]:
    return {
        "n": len(row.results),
        **spread("accuracy_percent", accuracies(row)),
        **spread("loss", losses(row)),
        **spread("seconds", row.estimate(total_seconds)),
        "dead_percent": dead_percent(row.results),
        "collapsed": len(collapsed(row)),
    }


def _told(outcome: published.Outcome | None) -> dict[str, Any]:
    return {
        "published_accuracy_percent": outcome.accuracy_percent if outcome else None,
        "published_loss": outcome.loss if outcome else None,
    }


_MEASURED: dict[str, Callable[[Any], Cell]] = {
    "n": lambda row: Cell(number(row.n)),
    "accuracy, %": lambda row: Cell(with_interval(row.accuracy_percent_mean, row.accuracy_percent_half_width_95, 2)),
    "published, %": lambda row: _figure(row.published_accuracy_percent, 2),
    "loss": lambda row: _loss(row.loss_mean, row.loss_half_width_95),
    "published loss": lambda row: _figure(row.published_loss, 2),
    "dead units, %": lambda row: Cell(number(row.dead_percent, 1)),
    "seconds": lambda row: Cell(seconds(row.seconds_mean, row.seconds_half_width_95)),
}


def _loss(mean: float, half_width: float | None) -> Cell:
    """None where a training diverged."""
    return missing(NONE) if pd.isna(mean) else Cell(with_interval(mean, half_width, 2))


def _figure(value: float | None, decimals: int) -> Cell:
    return missing(NONE) if value is None or pd.isna(value) else Cell(number(value, decimals))


def networks_table(results: StudyResults, rows: Sequence[Row]) -> Table:
    """Experiments 1, 2 and 4, as published and with other strategies."""
    records = [
        {
            "experiment": row.name,
            "setting": row.replicates.run.setting,
            "parameters": row.replicates.results[0].summary.n_parameters,
            **_measured(row.replicates),
            **_told(row.published),
        }
        for row in rows
    ]
    columns = {
        "experiment": lambda row: label(row.experiment, f"{row.parameters:,} parameters"),
        **_MEASURED,
    }
    n_images = reported_images(rows[0].replicates.results[0].summary)
    caption = (
        f"After the last epoch, on {n_images:,} test images: means ± half-width of the 95 % interval over the seeds. Published: "
        f"{published.DATASET}, one training each. Dead units: of the dense layer of 128, those that are 0 on every test image. "
        "Seconds are wall time."
    )
    return listing("architectures-networks", caption, pd.DataFrame(records), columns)


def differences_table(rows: Sequence[Row]) -> Table | None:
    """Which differences between experiments hold; None if no two share a seed."""
    plain = [row for row in rows if row.is_plain]
    pairs = [(second, first) for first, second in combinations(plain, 2)]
    pairs += [(row, own) for row in rows if not row.is_plain for own in plain if own.experiment == row.experiment]
    records = []
    for ours, theirs in pairs:
        found = difference(ours.replicates, theirs.replicates)
        if found is None:
            continue
        told = (
            ours.published.accuracy_percent - theirs.published.accuracy_percent
            if ours.published and theirs.published
            else None
        )
        records.append(
            {
                "experiment": ours.name,
                "against": theirs.name,
                **difference_columns(found),
                "published_difference_points": told,
            }
        )
    if not records:
        return None
    columns = {
        "experiment": lambda row: label(row.experiment),
        "against": lambda row: label(row.against),
        "pairs": lambda row: Cell(number(row.pairs)),
        "points": lambda row: Cell(number(row.difference_points, 2, sign=True)),
        "95 % interval": lambda row: interval_cell(row.interval_low, row.interval_high),
        "verdict": lambda row: label(row.verdict),
        "published": lambda row: (
            missing(NONE)
            if pd.isna(row.published_difference_points)
            else Cell(number(row.published_difference_points, 2, sign=True))
        ),
    }
    caption = (
        "Differences of accuracy in points, paired by seed; intervals are not adjusted for the number of comparisons. Published "
        f"differences are of one training each on {published.DATASET}."
    )
    return listing("architectures-differences", caption, pd.DataFrame(records), columns)


def grid_table(rows: Sequence[Replicates]) -> Table:
    """Experiment 3: every combination."""
    told = published.architectures_grid()
    records = [
        {
            "learning_rate": row.run.learning_rate,
            "batch_size": row.run.batch_size,
            "epochs": row.run.epochs,
            "setting": row.run.setting,
            **_measured(row),
            **_told(told.get((row.run.learning_rate, row.run.batch_size, row.run.epochs))),
        }
        for row in rows
    ]
    columns = {
        "learning rate": lambda row: Cell(f"{row.learning_rate:g}"),
        "batch": lambda row: Cell(number(row.batch_size)),
        "epochs": lambda row: Cell(number(row.epochs)),
        **_MEASURED,
    }
    n_images = reported_images(rows[0].results[0].summary)
    caption = (
        f"Experiment 3, the base network on {rows[0].n_subset:,} of {rows[0].n_pool:,} training images, after the last epoch on "
        f"{n_images:,} test images. Published: {published.DATASET}, one training each, on 80 % of the training images."
    )
    return listing("architectures-grid", caption, pd.DataFrame(records), columns)
