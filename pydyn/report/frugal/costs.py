"""What heads on frozen features cost, beside fine-tuning: time, energy, emissions."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pydyn.energy import Reading
from pydyn.report.figures import COLOURS, PAGE_WIDTH, Drawing, finish, legend_below, style
from pydyn.report.frugal.names import SPLITS
from pydyn.report.frugal.read import FrugalResults, Row, accuracy, kg_co2, kwh, seconds
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, with_interval
from pydyn.report.tables import seconds as seconds_text

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
        f"for each. {'Fine-tuning: the learning rate that won, alone. ' if any(row.is_fine_tuning for row in rows) else ''}"
        f"Energy and emissions by codecarbon, at the mix of {study.country}; {_sources(rows)}"
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


def cost_drawing(results: FrugalResults) -> Drawing | None:
    """Accuracy against seconds: every setting of every place of the first kind of split; None if there is none."""
    places = {place: rows for place, rows in results.places().items() if place[2] == results.main_splits}
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
        legend_below(figure, list(unique.values()), list(unique), 3)
        caption = (
            f"Test accuracy against what training took, {SPLITS[results.main_splits]}: means over the replicates, the "
            "small dots."
        )
        return finish("frugal-cost", caption, figure)


def reading_problems(results: FrugalResults) -> list[str]:
    """Why readings are missing, each reason once."""
    readings: list[Reading] = [reading for summary in results.every for reading in summary.costs.values()]
    return sorted({reading.problem for reading in readings if reading.problem})
