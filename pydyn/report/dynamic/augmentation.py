"""Experiment 4: strategies on augmented images (table 5, figure 13)."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Heading, Paragraph
from pydyn.report.dynamic.curves import spread_drawing
from pydyn.report.dynamic.differences import difference_frame, difference_table
from pydyn.report.dynamic.matching import Counterpart, compared_papers, counterparts
from pydyn.report.dynamic.names import PROTOCOLS, mean_seconds, row_names
from pydyn.report.dynamic.notes import INTERVALS, conditions, network_note
from pydyn.report.published import PAPERS, Paper
from pydyn.report.results import (
    Replicates,
    StudyResults,
    accuracy_percent,
    last_accuracy_percent,
    total_seconds,
)
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
from pydyn.selection.controls import Full

RECIPES = {
    "crop-flip": "a random crop of the image with 4 black pixels around it",
    "rotate-shift-flip": "the image turned by up to 15 degrees and moved by up to a tenth of itself, its edges repeated",
}
PUBLISHED = f"{published.DATASET}, {published.DEVICE}, 20 replicates"


def blocks(results: StudyResults) -> list[Block]:
    """Tables and a drawing for each protocol; the published figures alone where nothing was run."""
    if not results.experiments.get("augmentation"):
        return [
            Paragraph(
                "Table 5 and figure 13 of the papers: training with augmented images. This report holds no such Runs."
            ),
            _published_table(),
        ]
    (recipe,) = {RECIPES[result.run.augmentation] for result in results.experiments["augmentation"]}
    found: list[Block] = [
        Paragraph(
            f"Training with augmented images (table 5 and figure 13 of the papers): {recipe}, mirrored or not, drawn "
            "anew for each image and epoch. The papers name no recipe, no epochs (their seconds speak for some 80 to 100), "
            "no β and no scheme; their figures stand beside the same count or share of images, those of Dynamic Training "
            f"beside β = {published.BETA:g}, the one that they compare otherwise. {network_note(results)}"
        )
    ]
    for protocol in dict.fromkeys(result.run.protocol for result in results.experiments["augmentation"]):
        rows = results.replicates("augmentation", protocol)
        names = row_names(rows)
        found += [Heading(capitalised(PROTOCOLS[protocol])), _table(results, rows, protocol)]
        if len(differences := difference_frame(rows, names)):
            found.append(difference_table(differences, protocol, "augmentation"))
        found.append(spread_drawing(results, rows, names, protocol, "augmentation", "figure 13"))
    return found


def _table(results: StudyResults, rows: list[Replicates], protocol: str) -> Table:
    assert results.config.dynamic is not None
    papers = compared_papers(results.config.dynamic)
    full = mean_seconds(next((row for row in rows if isinstance(row.run.strategy, Full)), None))
    records = []
    beside = {paper: counterparts(results, rows, paper, "table 5") for paper in papers}
    for position, (row, name) in enumerate(zip(rows, row_names(rows), strict=True)):
        record: dict[str, Any] = {
            "strategy": name,
            "setting": row.run.setting,
            "epochs": row.run.epochs,
            "n": len(row.results),
        }
        record |= spread("accuracy_percent", row.estimate(accuracy_percent))
        record |= spread("accuracy_at_last_epoch_percent", row.estimate(last_accuracy_percent))
        record |= spread("seconds_total", row.estimate(total_seconds))
        record["time_share_of_full"] = record["seconds_total_mean"] / full if full else None
        for paper in papers:
            record |= _published_record(paper, beside[paper][position])
        records.append(record)
    columns: dict[str, Callable[[Any], Cell]] = {
        "strategy, with augmentation": lambda row: label(row.strategy),
        "epochs": lambda row: Cell(number(row.epochs)),
        "n": lambda row: Cell(number(row.n)),
        "measured": lambda row: Cell(with_interval(row.accuracy_percent_mean, row.accuracy_percent_half_width_95, 2)),
        "at last epoch": lambda row: Cell(
            with_interval(row.accuracy_at_last_epoch_percent_mean, row.accuracy_at_last_epoch_percent_half_width_95, 2)
        ),
        "seconds": lambda row: Cell(
            seconds(row.seconds_total_mean, row.seconds_total_half_width_95), _of_full(row.time_share_of_full)
        ),
    }
    for paper in papers:
        columns |= _published_columns(paper)
    caption = (
        f"Accuracy in percent and seconds with augmentation, {PROTOCOLS[protocol]}; below the seconds their share of the "
        f"full pool's. {INTERVALS} {conditions(rows)}"
        f"{f' Published: {PUBLISHED}.' if papers else ''}"
    )
    return listing(f"dynamic-augmentation-{protocol}", caption, pd.DataFrame(records), columns)


def _published_table() -> Table:
    rows = {"full pool": (1.0, False), "fixed half": (0.5, False), "dynamic half": (0.5, True)}
    records: list[dict[str, Any]] = []
    for name, (part, dynamic) in rows.items():
        record: dict[str, Any] = {"strategy": name, "n": 0}
        for paper in PAPERS:
            (figure,) = published.comparison(paper, part, augmentation=True, dynamic=dynamic)
            record |= _published_record(paper, Counterpart(figure, None, ()))
        records.append(record)
    columns: dict[str, Callable[[Any], Cell]] = {
        "strategy, with augmentation": lambda row: label(row.strategy),
        "measured": lambda row: missing(),
    }
    both = [_published_columns(paper) for paper in PAPERS]
    for position in (0, 1):
        for of_paper in both:
            columns |= dict([list(of_paper.items())[position]])
    caption = (
        "Accuracy in percent and seconds with augmentation, below them their share of the full pool's, as published: "
        f"{PUBLISHED}."
    )
    return listing("dynamic-augmentation", caption, pd.DataFrame(records), columns)


def _published_record(paper: Paper, found: Counterpart | None) -> dict[str, Any]:
    figure = found.figure if found else None
    return {
        f"published_{paper}_accuracy_percent": figure.accuracy_percent if figure else None,
        f"published_{paper}_there": ", ".join(found.there) if found else None,
        f"published_{paper}_seconds_gtx1070": figure.seconds if figure else None,
        f"published_{paper}_time_share_of_full": published.time_share(figure, paper, augmentation=True),
    }


def _of_full(part: float | None) -> str:
    return "" if part is None or pd.isna(part) else time_share(part)


def _published_columns(paper: Paper) -> dict[str, Callable[[Any], Cell]]:
    def cell(row: Any, name: str, shown: Callable[[float], str], below: str = "") -> Cell:
        value = getattr(row, f"published_{paper}_{name}")
        return missing(NONE) if pd.isna(value) else Cell(shown(value), below)

    return {
        f"paper {paper}": lambda row: cell(
            row, "accuracy_percent", lambda value: number(value, 2), getattr(row, f"published_{paper}_there") or ""
        ),
        f"paper\u00a0{paper},\u00a0s": lambda row: cell(
            row, "seconds_gtx1070", seconds, _of_full(getattr(row, f"published_{paper}_time_share_of_full"))
        ),
    }
