"""What a search over hyper-parameters costs, on features and by fine-tuning."""

from collections.abc import Iterator
from statistics import mean
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.frugal.read import FrugalResults, on_one_machine, seconds
from pydyn.report.tables import Cell, Table, label, listing, number
from pydyn.report.tables import seconds as seconds_text
from pydyn.studies.frugal_runs import HeadRun


def search_table(results: FrugalResults) -> Table | None:
    """What a search costs by either way, from what images and heads were measured to cost; None without fine-tuning."""
    measured = list(_searches(results))
    if not measured:
        return None
    columns = {
        "": lambda row: label(f"{row.backbone}", row.origin),
        "images": lambda row: Cell(number(row.samples)),
        "combinations": lambda row: Cell(number(row.combinations)),
        "fine-tuning": lambda row: Cell(_duration(row.fine_tuning_seconds), row.fine_tuning_how),
        "proposed": lambda row: Cell(_duration(row.proposed_seconds), row.proposed_how),
        "times faster": lambda row: Cell(number(row.speedup, 1 if row.speedup < 100 else 0)),
    }
    caption = (
        "Cost of a search over hyper-parameters: fine-tuning every combination, against adaptation and extraction once and all "
        "heads at once. Projected: from the seconds that an image was measured to cost here in extraction and in a whole "
        "fine-tuning (with its early stopping, the mean of the learning rates tried), and an image and combination in the heads' "
        "training. Published rows: RTX 4060."
    )
    return listing("frugal-search", caption, pd.DataFrame([*measured, *_published()]), columns)


def _searches(results: FrugalResults) -> Iterator[dict[str, Any]]:
    study = results.study
    rivals = {row.place: row for row in results.rows("fine-tuning")}
    for row in results.rows("search"):
        summary = row.results[0]
        run = summary.run
        rival = rivals.get(row.place)
        if rival is None or not isinstance(run, HeadRun) or study.search is None or not on_one_machine(row, rival):
            continue
        combinations, n_train = len(run.settings), summary.n_train
        # Every combination would be trained: the mean candidate counts, not the one that won.
        per_image = mean(s.costs["search"].seconds / s.n_candidates / s.n_train for s in rival.results)
        measured = {
            "dataset": run.dataset,
            "backbone": run.backbone.label,
            "combinations": combinations,
            "fine_tuning_how": "projected",
        }
        total = seconds(summary)
        yield _search(
            measured, f"{run.dataset}, as run", n_train, combinations * per_image * n_train, total, "measured"
        )
        fixed = summary.costs["adaptation"].seconds if "adaptation" in summary.costs else 0.0
        growing = (total - fixed) / n_train
        for samples in study.search.samples:
            ours = fixed + growing * samples
            yield _search(
                measured, f"from {run.dataset}", samples, combinations * per_image * samples, ours, "projected"
            )


def _published() -> Iterator[dict[str, Any]]:
    for backbone, samples, combinations, theirs, ours, speedup in published.frugal_search():
        told = {"dataset": "", "backbone": backbone, "combinations": combinations, "fine_tuning_how": "published"}
        # As printed: of the rounded durations beside it, the ratio is another.
        yield _search(told, "published", samples, theirs, ours, "published") | {"speedup": speedup}


def _search(told: dict[str, Any], origin: str, samples: int, theirs: float, ours: float, how: str) -> dict[str, Any]:
    return told | {
        "origin": origin,
        "samples": samples,
        "fine_tuning_seconds": theirs,
        "proposed_seconds": ours,
        "proposed_how": how,
        "speedup": theirs / ours,
    }


def _duration(value: float) -> str:
    if value < 120:
        return f"{seconds_text(value)} s"
    if value < 7200:
        return f"{number(value / 60, 1)} min"
    return f"{number(value / 3600, 1)} h" if value < 48 * 3600 else f"{number(value / 86400, 1)} d"
