"""What heads on frozen features cost, beside fine-tuning: time, energy, emissions, searches."""

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pydyn.energy import Reading
from pydyn.report import published
from pydyn.report.figures import COLOURS, PAGE_WIDTH, Drawing, finish, style
from pydyn.report.frugal.names import SPLITS
from pydyn.report.frugal.read import (
    FrugalResults,
    Row,
    Value,
    accuracy,
    fine_tuning_of,
    kg_co2,
    kwh,
    proposed_of,
    seconds,
)
from pydyn.report.statistics import Estimate, estimate
from pydyn.report.tables import NONE, Cell, Table, beside, label, listing, missing, number, with_interval
from pydyn.report.tables import seconds as seconds_text
from pydyn.studies.frugal_runs import HeadRun

STAGES = {"adaptation": "adaptation", "extraction": "extraction", "training": "training"}


def cost_table(place: tuple[str, str, str], rows: Sequence[Row]) -> Table:
    """Seconds by stage, energy and emissions of every setting."""
    dataset, backbone, splits = place
    records = []
    for row in rows:
        record: dict[str, Any] = {"setting": row.run.setting, "what": row.name, "n": len(row.results)}
        for stage in STAGES:
            found = [summary.costs[stage].seconds for summary in row.results if stage in summary.costs]
            record[f"seconds_{stage}"] = mean(found) if found else None
        for name, value in {"seconds_total": seconds, "wh": _wh, "mg_co2": _mg_co2}.items():
            amount = row.estimate_cost(value)
            record |= {
                f"{name}_mean": amount.mean if amount else None,
                f"{name}_half_width_95": amount.half_width if amount else None,
            }
        records.append(record)
    columns: dict[str, Callable[[Any], Cell]] = {
        "": lambda row: label(row.what, f"n = {row.n}"),
        **{f"{title}, s": _stage(stage) for stage, title in STAGES.items()},
        "total, s": lambda row: Cell(seconds_text(row.seconds_total_mean, row.seconds_total_half_width_95)),
        "Wh": _amount("wh"),
        "mg CO2e": _amount("mg_co2"),
    }
    study = rows[0].run
    caption = (
        f"What training on {dataset} took, {backbone}: means over the replicates. Heads: adaptation, extraction of the training "
        "and validation images, and training of all candidates at once; features are extracted once for all heads, but counted "
        "for each. Fine-tuning: the learning rate that won, alone. Energy and emissions by codecarbon, this process only, mix of "
        f"{study.country}; {_sources(rows)}"
    )
    return listing(f"frugal-costs-{dataset}-{backbone}-{splits}", caption, pd.DataFrame(records), columns)


def _wh(summary: Any) -> float:
    return 1000 * kwh(summary)


def _mg_co2(summary: Any) -> float:
    return 1e6 * kg_co2(summary)


def _stage(stage: str) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        value = getattr(row, f"seconds_{stage}")
        return missing(NONE) if value is None or pd.isna(value) else Cell(seconds_text(value))

    return cell


def _amount(name: str) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        value = getattr(row, f"{name}_mean")
        if value is None or pd.isna(value):
            return missing("no reading")
        decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
        return Cell(with_interval(value, getattr(row, f"{name}_half_width_95"), decimals))

    return cell


def _sources(rows: Sequence[Row]) -> str:
    """Where readings come from, and which are missing."""
    readings = [reading for row in rows for summary in row.results for reading in summary.costs.values()]
    known = {f"{name}: {part.source}" for reading in readings for name, part in reading.components.items()}
    problems = sorted({reading.problem for reading in readings if reading.problem})
    text = "; ".join(sorted(known)) or "no component was read"
    return f"{text}." + (f" Missing readings: {'; '.join(problems)}." if problems else "")


def reduction(summary_ours: float, theirs: float) -> float:
    """In percent of theirs."""
    return 100 * (1 - summary_ours / theirs)


QUANTITIES: dict[str, tuple[str, bool]] = {
    "accuracy_change_points": ("accuracy, points", True),
    "training_time_reduction_percent": ("less time, %", False),
    "emissions_reduction_percent": ("less CO2, %", False),
}
"""As published: what each is called, and whether it is shown with its sign."""


def change_table(results: FrugalResults) -> Table | None:
    """The proposed method less fine-tuning, beside the published means over four backbones; None if no place has both."""
    records = []
    for (dataset, backbone, splits), rows in results.places().items():
        ours, rival = proposed_of(rows), fine_tuning_of(rows)
        change = ours.against(rival, accuracy) if ours and rival else None
        if ours is None or rival is None or change is None:
            continue
        record: dict[str, Any] = {"dataset": dataset, "backbone": backbone, "splits": splits, "n": change.n}
        for quantity, found in {
            "accuracy_change_points": change,
            "training_time_reduction_percent": reductions(ours, rival, seconds),
            "emissions_reduction_percent": reductions(ours, rival, kg_co2),
        }.items():
            reference = published.frugal_change(dataset, quantity)
            record |= {
                f"{quantity}_mean": found.mean if found else None,
                f"{quantity}_half_width_95": found.half_width if found else None,
                f"published_{quantity}_mean": reference[0] if reference else None,
                f"published_{quantity}_std": reference[1] if reference else None,
            }
        records.append(record)
    if not records:
        return None
    columns: dict[str, Callable[[Any], Cell]] = {
        "data set": lambda row: label(row.dataset, f"{row.backbone}, {row.splits} split, n = {row.n}"),
    }
    for quantity, (title, signed) in QUANTITIES.items():
        columns |= {title: _measured(quantity, signed), f"published {title}": _told(quantity, signed)}
    caption = (
        "The proposed method (adapted, redesigned head, weighted) less fine-tuning, paired by replicate: mean ± half-width of "
        "the 95 % interval. Published: mean and std over resnet18, resnet50, densenet121 and mobilenet_v3 on such data, on an "
        "RTX 4060; the paper does not say how it split them."
    )
    return listing("frugal-changes", caption, pd.DataFrame(records), columns)


def _measured(quantity: str, signed: bool) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        mean_ = getattr(row, f"{quantity}_mean")
        if mean_ is None or pd.isna(mean_):
            return missing("no reading")
        return Cell(number(mean_, 2, sign=signed), beside(getattr(row, f"{quantity}_half_width_95"), 2))

    return cell


def _told(quantity: str, signed: bool) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        mean_ = getattr(row, f"published_{quantity}_mean")
        if mean_ is None or pd.isna(mean_):
            return missing(NONE)
        return Cell(number(mean_, 2, sign=signed), f"std {getattr(row, f'published_{quantity}_std'):.2f}")

    return cell


def reductions(ours: Row, rival: Row, value: Value) -> Estimate | None:
    """By how much less, in percent of fine-tuning, paired by replicate; None without readings."""
    theirs = rival.by_seed(value)
    found = [reduction(amount, theirs[seed]) for seed, amount in ours.by_seed(value).items() if seed in theirs]
    return None if not found or any(pd.isna(found)) else estimate(found)


def search_table(results: FrugalResults) -> Table | None:
    """What a search over hyper-parameters costs by either way, from what images and heads were measured to cost."""
    records = list(_searches(results))
    if not records:
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
        "fine-tuning (with its early stopping), and an image and combination in the heads' training. Published rows: RTX 4060."
    )
    return listing("frugal-search", caption, pd.DataFrame(records), columns)


def _searches(results: FrugalResults) -> Iterator[dict[str, Any]]:
    study = results.study
    rivals = {row.place: row for row in results.rows("fine-tuning")}
    for row in results.rows("search"):
        summary = row.results[0]
        run = summary.run
        rival = rivals.get(row.place)
        if rival is None or not isinstance(run, HeadRun) or study.search is None:
            continue
        combinations, n_train = len(run.settings), summary.n_train
        per_image = mean(s.costs["training"].seconds / s.n_train for s in rival.results)
        measured = {
            "dataset": run.dataset,
            "backbone": run.backbone.name,
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
    for backbone, samples, combinations, theirs, ours in published.frugal_search():
        told = {"dataset": "", "backbone": backbone, "combinations": combinations, "fine_tuning_how": "published"}
        yield _search(told, "published", samples, theirs, ours, "published")


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


def cost_drawing(results: FrugalResults) -> Drawing | None:
    """Accuracy against seconds: every setting of every place of the first kind of split; None if there is none."""
    places = {place: rows for place, rows in results.places().items() if place[2] == results.study.splits[0]}
    if not places:
        return None
    n_lines = (len(places) + 1) // 2
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 0.4 + 2.4 * n_lines))
        axes = figure.subplots(n_lines, 2, squeeze=False).flatten()
        for axis in axes[len(places) :]:
            axis.set_visible(False)
        for axis, ((dataset, backbone, _), rows) in zip(axes, places.items(), strict=False):
            for row in rows:
                kind = 0 if row.is_fine_tuning else 1 if row.is_proposed else 2
                spent, reached = row.by_seed(seconds), row.by_seed(accuracy)
                axis.plot(
                    list(spent.values()),
                    [reached[seed] for seed in spent],
                    ".",
                    color=COLOURS[kind],
                    alpha=0.35,
                    markersize=4,
                )
                axis.plot(
                    mean(spent.values()),
                    mean(reached.values()),
                    "osD"[kind],
                    color=COLOURS[kind],
                    markersize=6 - kind,
                    label=("fine-tuning", "proposed", "other heads")[kind],
                )
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(f"{dataset}\n{backbone}", fontsize=8)
            axis.set_xlabel("seconds of training")
            axis.set_ylabel("test accuracy, %")
        unique = {
            name: handle
            for axis in reversed(axes[: len(places)])
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
        caption = (
            f"Test accuracy against what training took, {SPLITS[results.study.splits[0]]}: means over the replicates, the "
            "small dots."
        )
        return finish("frugal-cost", caption, figure)


def reading_problems(results: FrugalResults) -> list[str]:
    """Why readings are missing, each reason once."""
    readings: list[Reading] = [reading for summary in results.every for reading in summary.costs.values()]
    return sorted({reading.problem for reading in readings if reading.problem})
