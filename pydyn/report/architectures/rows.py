"""The study's rows: what was trained from several seeds, and what was published of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pydyn.report import published
from pydyn.report.results import Replicates, Result, StudyResults, last_accuracy_percent
from pydyn.report.statistics import Estimate, estimate, paired_difference
from pydyn.selection.controls import Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.strategy import Parameters
from pydyn.studies.architectures import EXPERIMENTS
from pydyn.training.summary import Summary

# So close to what is right by chance a network has learnt nothing.
NEAR_CHANCE = 1.1

WORDS = {1: "base", 2: "deeper, with dropout", 4: "batch normalisation, augmentation"}


@dataclass(frozen=True)
class Row:
    """An experiment with one strategy."""

    experiment: int
    replicates: Replicates
    name: str
    """In words."""

    @property
    def is_plain(self) -> bool:
        """Whether it is the source's own training."""
        return isinstance(self.replicates.run.strategy, Full)

    @property
    def published(self) -> published.Outcome | None:
        """What the source reports of it."""
        return published.architectures()[self.experiment] if self.is_plain else None


def network_rows(results: StudyResults) -> list[Row]:
    """Experiments 1, 2 and 4 as published, then with other strategies: each setting once, under a name of its own."""
    number_of = {experiment.model: experiment.number for experiment in EXPERIMENTS}
    every = [row for name in ("networks", "strategies") for row in results.replicates(name, "paper")]
    rows = list({row.run.setting: row for row in every}.values())
    names = [_name(number_of[row.run.model], row.run.strategy) for row in rows]
    return [
        Row(number_of[row.run.model], row, name if names.count(name) == 1 else f"{name} [{row.run.strategy.label}]")
        for row, name in zip(rows, names, strict=True)
    ]


def _name(experiment: int, strategy: Parameters) -> str:
    name = f"{experiment}: {WORDS[experiment]}"
    if isinstance(strategy, Full):
        return name
    return f"{name}, {'Dynamic Training' if isinstance(strategy, Dynamic) else strategy.label}"


def losses(row: Replicates) -> Estimate:
    """After the last epoch, on the test images."""
    return estimate([result.history[-1].validation_loss for result in row.results])


def accuracies(row: Replicates) -> Estimate:
    """After the last epoch, on the test images, in percent."""
    return row.estimate(last_accuracy_percent)


def best_of(cells: Sequence[Replicates]) -> Replicates | None:
    """Of the grid, by accuracy after the last epoch; None of none."""
    return max(cells, key=lambda cell: accuracies(cell).mean, default=None)


def dead_percent(results: Sequence[Result]) -> float:
    """Share of units of the layers with a ReLU, the last of them, that are 0 on all test images: mean over Runs."""
    return float(np.mean([100 * _dead_share(result.summary) for result in results]))


def _dead_share(summary: Summary) -> float:
    last = summary.dead_units[-1]
    return last.dead / last.units


def collapsed(row: Replicates) -> list[Result]:
    """Replicates that end at chance, or name one class for every image: where most are of it, that is above chance."""
    return [result for result in row.results if _has_collapsed(result.summary)]


def _has_collapsed(summary: Summary) -> bool:
    named = np.count_nonzero(np.sum(summary.confusion, axis=0))
    return bool(named == 1 or last_accuracy_percent(summary) < NEAR_CHANCE * 100 / len(summary.confusion))


def difference(ours: Replicates, theirs: Replicates) -> Estimate | None:
    """Of accuracy in points, paired by seed."""
    return paired_difference(ours.by_seed(last_accuracy_percent), theirs.by_seed(last_accuracy_percent))
