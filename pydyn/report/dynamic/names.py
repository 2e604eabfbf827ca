"""How the study `dynamic` names its strategies and finds the published figures that belong to them."""

from collections.abc import Sequence

from pydyn.report import published
from pydyn.report.published import Figure, Paper
from pydyn.report.results import DataFacts, Replicates, StudyResults, total_seconds
from pydyn.report.tables import share
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.strategy import Parameters

PROTOCOLS = {
    "paper": "protocol paper",
    "holdout": "protocol holdout",
}


def pool_share(alpha: int | float, data: DataFacts) -> float:
    """The share of the pool that `alpha` stands for, to three decimals."""
    return round(alpha if isinstance(alpha, float) else alpha / data.n_train, 3)


def strategy_name(strategy: Parameters, data: DataFacts) -> str:
    """In words, for a reader who does not know the labels."""
    if isinstance(strategy, Full):
        return "full pool"
    if isinstance(strategy, Fixed):
        part = pool_share(strategy.alpha, data)
        return "fixed half" if part == 0.5 else f"fixed {share(part)}"
    if isinstance(strategy, Dynamic):
        part = pool_share(strategy.alpha, data)
        size = "half" if part == 0.5 else share(part)
        decay = f", γ\u00a0{strategy.gamma:g}" if strategy.gamma != 1 else ""
        return f"dynamic {size} ({strategy.scheme}, β\u00a0{strategy.beta:g}{decay})"
    return strategy.label


def row_names(rows: Sequence[Replicates], data: DataFacts) -> list[str]:
    """A different name for each row: epochs are told where they differ, labels where nothing else does."""
    names = [strategy_name(row.run.strategy, data) for row in rows]
    if len({row.run.epochs for row in rows}) > 1:
        names = [f"{name}, {row.run.epochs} epochs" for name, row in zip(names, rows, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} [{row.run.strategy.label}]"
        for name, row in zip(names, rows, strict=True)
    ]


def published_row(paper: Paper, strategy: Parameters, data: DataFacts, replicated: bool = False) -> Figure | None:
    """The published result of the same strategy, at the papers' scale; None if they have none.

    `replicated`: the mean of 20 replicates (figure 12) instead of a single training.
    """
    if isinstance(strategy, Full):
        found = published.comparison(paper, 1.0)
    elif isinstance(strategy, Fixed) and pool_share(strategy.alpha, data) == 0.5:
        found = published.comparison(paper, 0.5)
    elif isinstance(strategy, Dynamic) and pool_share(strategy.alpha, data) == 0.5 and strategy.beta == published.BETA:
        found = published.comparison(paper, 0.5, strategy.scheme)
    else:
        found = []
    matching = [figure for figure in found if ("figure 12" in figure.place) == replicated]
    return matching[0] if matching else None


def full_seconds(results: StudyResults, protocol: str) -> float | None:
    """Mean time of typical training on the whole pool, the longest if there are several: what times are related to."""
    candidates = [
        row
        for experiment in results.experiments
        for row in results.replicates(experiment, protocol)
        if isinstance(row.run.strategy, Full)
    ]
    if not candidates:
        return None
    longest = max(candidates, key=lambda row: (row.run.epochs, len(row.results)))
    return longest.estimate(total_seconds).mean
