"""Dynamic Training against its controls at equal cost: as many images trained, or as much time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pydyn.report.dynamic.differences import CONTROLS
from pydyn.report.dynamic.names import PROTOCOLS
from pydyn.report.paired import difference_columns, interval_cell
from pydyn.report.results import Replicates, Result, timed_alike
from pydyn.report.statistics import estimate
from pydyn.report.tables import Cell, Table, label, listing, missing, number, seconds
from pydyn.selection.dynamic import Dynamic
from pydyn.training.history import Epoch

Cost = Literal["images", "seconds"]


def images_so_far(history: Sequence[Epoch]) -> NDArray[np.float64]:
    """Images trained by the end of each epoch, repeats counted."""
    return np.array([epoch.images_trained for epoch in history], dtype=np.float64)


def seconds_so_far(history: Sequence[Epoch]) -> NDArray[np.float64]:
    """Seconds of training, evaluation and selection by the end of each epoch."""
    return np.cumsum([epoch.seconds_train + epoch.seconds_evaluate + epoch.seconds_select for epoch in history])


COSTS: dict[Cost, Callable[[Sequence[Epoch]], NDArray[np.float64]]] = {
    "images": images_so_far,
    "seconds": seconds_so_far,
}


_COLUMNS = (
    "budget",
    "difference_points",
    "interval_low",
    "interval_high",
    "verdict",
    "best_difference_points",
    "without",
)


def budget_frame(rows: Sequence[Replicates], names: Sequence[str]) -> pd.DataFrame:
    """For each dynamic strategy and each control: the difference of accuracy at equal images and at equal seconds, or why
    there is none."""
    records = []
    for row, name in zip(rows, names, strict=True):
        if not isinstance(row.run.strategy, Dynamic):
            continue
        for control, against in zip(rows, names, strict=True):
            if not isinstance(control.run.strategy, CONTROLS):
                continue
            pairs = _pairs(row, control)
            if pairs:
                records.append({"strategy": name, "against": against, "pairs": len(pairs)} | _columns(pairs))
    every = [f"{cost}_{column}" for cost in COSTS for column in _COLUMNS]
    return pd.DataFrame(records, columns=["strategy", "against", "pairs", *every]) if records else pd.DataFrame()


def _pairs(row: Replicates, control: Replicates) -> list[tuple[Result, Result]]:
    theirs = {result.run.seed: result for result in control.results}
    return [(result, theirs[result.run.seed]) for result in row.results if result.run.seed in theirs]


def _columns(pairs: Sequence[tuple[Result, Result]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, cost in COSTS.items():
        budgets = [min(cost(result.history)[-1] for result in pair) for pair in pairs]
        columns[f"{name}_budget"] = float(np.mean(budgets))
        within = [
            (accuracies_within(ours, cost, budget), accuracies_within(theirs, cost, budget))
            for (ours, theirs), budget in zip(pairs, budgets, strict=True)
        ]
        if name == "seconds" and any(not timed_alike(ours, theirs) for ours, theirs in pairs):
            columns["seconds_without"] = "not on one machine"
            continue
        if not all(len(accuracies) for pair in within for accuracies in pair):
            columns[f"{name}_without"] = "no epoch by then"
            continue
        difference = estimate([100 * (ours[-1] - theirs[-1]) for ours, theirs in within])
        columns |= {f"{name}_{column}": value for column, value in difference_columns(difference).items()}
        columns[f"{name}_best_difference_points"] = float(np.mean([100 * (max(a) - max(b)) for a, b in within]))
    return columns


def accuracies_within(
    result: Result, cost: Callable[[Sequence[Epoch]], NDArray[np.float64]], budget: float
) -> NDArray[np.float64]:
    """Validation accuracies, in 0..1, of the epochs that ended within a budget."""
    accuracies = np.array([epoch.validation_accuracy for epoch in result.history])
    return accuracies[cost(result.history) <= budget]


def budget_table(frame: pd.DataFrame, protocol: str) -> Table:
    """The differences, with a verdict each where chance flatters none."""

    def difference(cost: Cost) -> Callable[[Any], Cell]:
        def cell(row: Any) -> Cell:
            last, best = (getattr(row, f"{cost}_{name}") for name in ("difference_points", "best_difference_points"))
            if pd.isna(last):
                return missing(getattr(row, f"{cost}_without"))
            return Cell(number(last, 2, sign=True), f"best so far {number(best, 2, sign=True)}")

        return cell

    def interval(cost: Cost) -> Callable[[Any], Cell]:
        def cell(row: Any) -> Cell:
            found = interval_cell(getattr(row, f"{cost}_interval_low"), getattr(row, f"{cost}_interval_high"))
            verdict = getattr(row, f"{cost}_verdict")
            return found if pd.isna(verdict) else replace(found, note=verdict)

        return cell

    columns = {
        "strategy": lambda row: label(row.strategy),
        "against": lambda row: label(row.against),
        "pairs": lambda row: Cell(number(row.pairs)),
        "images": lambda row: Cell(number(row.images_budget)),
        "points at equal images": difference("images"),
        "95 % interval": interval("images"),
        "seconds": lambda row: Cell(seconds(row.seconds_budget)),
        "points at equal seconds": difference("seconds"),
        "its 95 % interval": interval("seconds"),
    }
    caption = (
        f"At equal cost, {PROTOCOLS[protocol]}: differences of validation accuracy in points, paired by seed, where the "
        "cheaper of the two Runs ends: after as many images trained (repeats counted), and after as many seconds of "
        "training, evaluation and selection. Of each Run the last epoch counts that ended by then. It is the accuracy "
        "that steers, not the one reported; seconds are wall time of a machine that may be shared. Best so far: the same "
        "of the best epoch by then, without a verdict: the best of more epochs is higher by chance, and at equal images a "
        "strategy with half as many an epoch has twice as many epochs. A Run that is cut short is not one planned to end "
        "there: InfoBatch, for one, ends with epochs on the full pool."
    )
    return listing(f"dynamic-comparison-budgets-{protocol}", caption, frame, columns)
