"""How the study `dynamic` names its strategies, and what times are related to."""

from collections import Counter
from collections.abc import Sequence

from pydyn.report.results import Replicates, StudyResults, total_seconds
from pydyn.report.tables import share
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch

PROTOCOLS = {
    "paper": "protocol paper",
    "holdout": "protocol holdout",
}


def is_share(n_subset: int, n_pool: int, part: float) -> bool:
    """Whether a subset is this share of its pool: to 0.1 points and the rounding to whole images."""
    return abs(n_subset / n_pool - part) <= 0.001 + 0.5 / n_pool


def strategy_name(row: Replicates) -> str:
    """In words, for a reader who does not know the labels; sizes as shares of the Runs' own pool."""
    strategy = row.run.strategy
    if isinstance(strategy, Full):
        return "full pool"
    if isinstance(strategy, InfoBatch):
        anneal = f", annealed {share(strategy.anneal)}" if strategy.anneal != InfoBatch.anneal else ""
        return f"InfoBatch (r\u00a0{strategy.ratio:g}{anneal})"
    size = "half" if is_share(row.n_subset, row.n_pool, 0.5) else share(row.share)
    if isinstance(strategy, Fixed):
        return f"fixed {size}"
    if isinstance(strategy, Fresh):
        return f"fresh {size} every epoch (RS2)"
    if isinstance(strategy, Dynamic):
        decay = f", γ\u00a0{strategy.gamma:g}" if strategy.gamma != 1 else ""
        threshold = f", δ\u00a0{strategy.delta:g}" if strategy.delta != Dynamic.delta else ""
        guided = f", unseen and {strategy.replacements} first" if strategy.replacements != "uniform" else ""
        trigger = f", {strategy.trigger} trigger" if strategy.trigger != Dynamic.trigger else ""
        return f"dynamic {size} ({strategy.scheme}, β\u00a0{strategy.beta:g}{decay}{threshold}{guided}{trigger})"
    return strategy.label


def row_names(rows: Sequence[Replicates]) -> list[str]:
    """A different name for each row (one at least): with its epochs if most have others, with its label if all else is equal."""
    names = [strategy_name(row) for row in rows]
    ((usual, count),) = Counter(row.run.epochs for row in rows).most_common(1)
    names = [
        name if row.run.epochs == usual and 2 * count > len(rows) else f"{name}, {row.run.epochs} epochs"
        for name, row in zip(names, rows, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} [{row.run.strategy.label}]"
        for name, row in zip(names, rows, strict=True)
    ]


def full_pool(results: StudyResults, protocol: str) -> Replicates | None:
    """The Runs on the full pool, not augmented, that times are related to: those of most epochs, of most replicates."""
    candidates = [
        row
        for experiment in results.experiments
        for row in results.replicates(experiment, protocol)
        if isinstance(row.run.strategy, Full) and row.run.augmentation == "none"
    ]
    return max(candidates, key=lambda row: (row.run.epochs, len(row.results)), default=None)


def mean_seconds(row: Replicates | None) -> float | None:
    """Mean time of a Run, if there are any."""
    return row.estimate(total_seconds).mean if row else None
