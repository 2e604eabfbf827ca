"""Experiments of the study `dynamic` of which a report holds no Runs: the published figures alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.blocks import Block, Paragraph
from pydyn.report.published import PAPERS, Figure, Paper
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number, seconds

Columns = dict[str, Callable[[Any], Cell]]

_PLACE = f"{published.DATASET}, {published.DEVICE}"


def grid() -> list[Block]:
    """Tables 2 and 3."""
    what = "Tables 2 and 3 of the papers: Dynamic Training for every subset size α and share of replacement β."
    return [_not_run(what), grid_table(PAPERS)]


def grid_table(papers: Sequence[Paper]) -> Table:
    """Tables 2 and 3 of some papers."""
    told = {paper: published.grid(paper) for paper in papers}
    betas = sorted({beta for cells in told.values() for _, beta in cells})
    records = [
        {
            "alpha": alpha,
            "paper": paper,
            **{f"accuracy_percent_{i}": told[paper][alpha, beta].accuracy_percent for i, beta in enumerate(betas)},
            **{f"seconds_{i}": told[paper][alpha, beta].seconds for i, beta in enumerate(betas)},
        }
        for alpha in published.ALPHAS
        for paper in papers
    ]
    columns: Columns = {
        "α": lambda row: label(number(row.alpha)),
        "": lambda row: label(f"paper {row.paper}"),
        **{f"β\u00a0=\u00a0{beta:g}": _grid_cell(position) for position, beta in enumerate(betas)},
    }
    schemes = " and ".join(f"scheme {published.GRID_SCHEMES[paper]} in paper {paper}" for paper in papers)
    caption = (
        f"Accuracy in percent and seconds of a training, as published: {_PLACE}, {schemes}, γ = {published.GAMMA}, up to "
        f"{published.EPOCHS} epochs, one training a cell."
    )
    frame = pd.DataFrame(records)
    shown = listing("dynamic-grid", caption, frame, columns)
    names = {
        f"{kind}_{i}": f"{kind}_beta_{beta:g}"
        for kind in ("accuracy_percent", "seconds")
        for i, beta in enumerate(betas)
    }
    every = frame.rename(columns=names)
    return Table(shown.name, caption, shown.header, shown.body, every)


def _grid_cell(position: int) -> Callable[[Any], Cell]:
    return lambda row: Cell(
        number(getattr(row, f"accuracy_percent_{position}"), 1), f"{seconds(getattr(row, f'seconds_{position}'))} s"
    )


def comparison() -> list[Block]:
    """Table 4 and figure 11."""
    rows: list[tuple[str, float, Any]] = [
        ("full pool", 1.0, None),
        ("fixed half", 0.5, None),
        ("dynamic half, base", 0.5, "base"),
        ("dynamic half, best-set", 0.5, "best-set"),
    ]
    records = []
    for name, share, variant in rows:
        figures = {paper: _single(paper, share, variant) for paper in PAPERS}
        records.append({"strategy": name, **_beside(figures)})
    columns: Columns = {
        "strategy": lambda row: label(row.strategy),
        "measured": lambda row: missing(),
        **_columns("accuracy_percent", "", lambda value: number(value, 2)),
        **_columns("seconds_gtx1070", ", s", seconds),
        **_columns("epochs", ", epochs", number),
    }
    caption = f"Accuracy in percent and seconds, as published: {_PLACE}, β = {published.BETA:g}, one training a row."
    return [
        _not_run("Table 4 and figures 8 to 11 of the papers: strategies side by side."),
        listing("dynamic-comparison", caption, pd.DataFrame(records), columns),
    ]


def robustness() -> list[Block]:
    """Figure 12."""
    (figure,) = (f for f in published.comparison("a", 0.5, "best-set") if _is_of_replicates(f))
    records = [{"strategy": "dynamic half, best-set", **_beside({"a": figure})}]
    columns: Columns = {
        "strategy": lambda row: label(row.strategy),
        "measured": lambda row: missing(),
        "paper a": lambda row: Cell(number(row.published_a_accuracy_percent, 2)),
        "paper\u00a0a, epochs": lambda row: Cell(number(row.published_a_epochs)),
    }
    caption = f"Mean of the maxima of 20 trainings in percent, as published: {_PLACE}, β = {published.BETA:g}."
    return [
        _not_run("Figure 12 of paper a: the same setting from several seeds."),
        listing("dynamic-robustness", caption, pd.DataFrame(records), columns),
    ]


def _not_run(what: str) -> Paragraph:
    return Paragraph(f"{what} This report holds no such Runs.")


def _single(paper: Paper, share: float, variant: Any) -> Figure | None:
    return next((f for f in published.comparison(paper, share, variant) if not _is_of_replicates(f)), None)


def _is_of_replicates(figure: Figure) -> bool:
    return figure.place.startswith("figure 12")


def _beside(figures: dict[Paper, Figure | None]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for paper, figure in figures.items():
        record[f"published_{paper}_accuracy_percent"] = figure.accuracy_percent if figure else None
        record[f"published_{paper}_seconds_gtx1070"] = figure.seconds if figure else None
        record[f"published_{paper}_epochs"] = figure.epochs if figure else None
    return record


def _columns(value: str, unit: str, shown: Callable[[Any], str]) -> Columns:
    def cell(paper: Paper) -> Callable[[Any], Cell]:
        def of(row: Any) -> Cell:
            found = getattr(row, f"published_{paper}_{value}")
            return missing(NONE) if pd.isna(found) else Cell(shown(found))

        return of

    return {f"paper\u00a0{paper}{unit}": cell(paper) for paper in PAPERS}
