"""Results of the study `shapes` as the report reads them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pydyn.config.main import Config
from pydyn.config.shapes import ShapesStudy
from pydyn.errors import RunError
from pydyn.report import published
from pydyn.report.results import MISSING, DataFacts, read_facts
from pydyn.report.statistics import independent_trials, share_interval, shares_differ
from pydyn.studies.run import AnyRun
from pydyn.studies.shapes import datasets, experiments
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun
from pydyn.training.analysis_summary import AnalysisSummary, read_analysis_summary
from pydyn.training.population_summary import (
    DIVERGED_NAME,
    LEARNT_NAME,
    OTHER_NAME,
    PopulationSummary,
    end_of,
    read_population_summary,
)

Maps = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Combination:
    """Networks of some filters on a data set, measured and published."""

    summary: PopulationSummary
    told: tuple[float, ...]
    """Validation accuracies of the thesis's trainings of this combination, one after the other."""

    @property
    def published(self) -> list[str]:
        """How these ended."""
        return [end_of(accuracy, self.summary.n_classes) for accuracy in self.told]

    @property
    def run(self) -> PopulationRun:
        """What was trained."""
        return self.summary.run

    @property
    def ends(self) -> list[str]:
        """How each member ended, in the order of their seeds."""
        return [self.summary.end(member) for member in self.summary.members]

    @property
    def learnt(self) -> int:
        """Members that learnt."""
        return self.ends.count(LEARNT_NAME)

    @property
    def as_many(self) -> list[str]:
        """How the first members ended, as many as the thesis trained, or all if there are fewer."""
        return self.ends[: len(self.published)]

    @property
    def has_two_layers(self) -> bool:
        """The thesis's tables are of these."""
        return len(self.run.layers) == 2


@dataclass(frozen=True)
class Analysed:
    """A network's analyses with the images that they show."""

    summary: AnalysisSummary
    maps: tuple[Maps, ...]
    """Of each layer: (N, F, H, W)."""
    shown: Pixels
    """(N, H, W)."""
    failed: Pixels
    """(n, H, W), the first of the misclassified images."""
    told: tuple[published.Pruned, ...]
    """The thesis's pruning of its network of as many filters, if it has one."""

    @property
    def name(self) -> str:
        """As `16-4 on shapes-1.3, 40 epochs`."""
        population = self.summary.run.population
        return f"{population.filters} on {population.dataset}, {population.epochs} epochs"

    @property
    def after(self) -> list[float]:
        """Accuracy after each step of pruning."""
        return [*(step.accuracy for step in self.summary.steps[1:]), self.summary.accuracy_left]

    @property
    def file(self) -> str:
        """As part of a file's name."""
        population = self.summary.run.population
        return f"{population.dataset}-{population.filters}-e{population.epochs}"


@dataclass(frozen=True)
class ShapesResults:
    """All that the study has to report."""

    config: Config
    folder: Path
    data: Mapping[str, DataFacts]
    combinations: Sequence[Combination]
    causes: Sequence[PopulationSummary]
    analyses: Sequence[Analysed]

    @property
    def study(self) -> ShapesStudy:
        """As configured."""
        assert self.config.shapes is not None
        return self.config.shapes

    @property
    def populations(self) -> list[PopulationSummary]:
        """Each once."""
        every = [*(combination.summary for combination in self.combinations), *self.causes]
        return list({summary.run: summary for summary in every}.values())

    def of_two_layers(self) -> Iterator[tuple[str, list[Combination]]]:
        """Combinations by data set, as in the thesis's tables."""
        for dataset in self.data:
            found = [one for one in self.combinations if one.has_two_layers and one.run.dataset == dataset]
            if found:
                yield dataset, found

    def causes_by_place(self) -> dict[tuple[str, str, int], list[PopulationSummary]]:
        """By data set, filters and epochs."""
        found: dict[tuple[str, str, int], list[PopulationSummary]] = {}
        for summary in self.causes:
            run = summary.run
            found.setdefault((run.dataset, run.filters, run.epochs), []).append(summary)
        return found


@dataclass(frozen=True)
class Pooled:
    """Trainings of several combinations together. Those of one seed see the images in one order and, with as many filters in the
    first layer, begin with the same weights there: they end alike more often than others."""

    learnt: int
    n: int
    independent: int
    """As so many independent trainings they tell of the share that learns."""

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share, in 0..1."""
        return share_interval(self.learnt / self.n * self.independent, self.independent)

    def differs_from(self, other: Self) -> float:
        """Fisher's exact test of the shares, of counts of independent trainings."""
        counts = [round(one.learnt / one.n * one.independent) for one in (self, other)]
        return shares_differ(counts[0], self.independent, counts[1], other.independent)


def pooled(combinations: Sequence[Combination], as_many: bool = False) -> Pooled:
    """All measured trainings; or of each combination the first, as many as the thesis has. At least one."""
    groups: dict[int, list[bool]] = {}
    for one in combinations:
        ends = one.as_many if as_many else one.ends
        for member, end in zip(one.summary.members, ends, strict=False):
            groups.setdefault(member.seed, []).append(end == LEARNT_NAME)
    outcomes = [outcome for group in groups.values() for outcome in group]
    return Pooled(sum(outcomes), len(outcomes), independent_trials(groups.values()))


def ends_of(n_classes: int) -> list[str]:
    """Every way to end, best first, for a table's columns."""
    return [LEARNT_NAME, *(f"{right}/{n_classes}" for right in range(n_classes - 1, 0, -1)), OTHER_NAME, DIVERGED_NAME]


def read_shapes(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> ShapesResults:
    """Read the study's Runs, but for some, and their image stores.

    Raises DataError or RunError for what is missing, naming it and what to do.
    """
    listed = {name: [run for run in runs if run not in left_out] for name, runs in experiments(config).items()}
    named = {run.dataset for runs in listed.values() for run in runs}
    data = {name: read_facts(name, results) for name in datasets(config) if name in named}
    combinations = []
    for run in listed["trainings"]:
        assert isinstance(run, PopulationRun)
        summary = read_population(run, results, data[run.dataset])
        told = published.shapes_set(data[run.dataset].declaration)
        values = published.shapes_trainings(told, run.filters, run.epochs) if told else []
        combinations.append(Combination(summary, tuple(values)))
    causes = [
        read_population(run, results, data[run.dataset])
        for run in dict.fromkeys(listed.get("causes", []))
        if isinstance(run, PopulationRun)
    ]
    analyses = [
        read_analysis(run, results, data[run.dataset])
        for run in dict.fromkeys(listed.get("analyses", []))
        if isinstance(run, AnalysisRun)
    ]
    return ShapesResults(config, results, data, combinations, causes, analyses)


def read_population(run: PopulationRun, results: Path, data: DataFacts) -> PopulationSummary:
    """A population's summary. Raises RunError if it is missing, spoilt, of another Run or of other data."""
    summary = read_population_summary(_summary_of(run, results))
    _check(run, summary, results, data)
    return summary


def read_analysis(run: AnalysisRun, results: Path, data: DataFacts) -> Analysed:
    """An analysis's summary and images. Raises RunError as `read_population` does."""
    summary = read_analysis_summary(_summary_of(run, results))
    _check(run, summary, results, data)
    directory = run.directory(results)
    try:
        maps = load_file(directory / "maps.safetensors")
        images = load_file(directory / "images.safetensors")
        layers = tuple(maps[f"layer{number}"] for number in range(1, len(maps) + 1))
        shown, failed = images["shown"], images["failed"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise RunError(f"Run {run.id} cannot be read: {error}; remove {directory} and run the workflow again") from None
    dataset = published.shapes_set(data.declaration)
    told = published.shapes_pruning(dataset, run.population.filters) if dataset else []
    return Analysed(summary, layers, shown, failed, tuple(told))


def _summary_of(run: AnyRun, results: Path) -> Path:
    path = run.directory(results) / "summary.json"
    if not path.exists():
        raise RunError(f"Run {run.id} is not complete: {path.parent} has no summary.json; {MISSING}")
    return path


def _check(run: AnyRun, summary: Any, results: Path, data: DataFacts) -> None:
    directory = run.directory(results)
    what_to_do = "remove that folder and run the workflow again"
    if summary.run != run:
        raise RunError(f"Run {run.id}: {directory} holds another Run ({summary.run.id}); {what_to_do}")
    if summary.data != data.digest:
        raise RunError(f"Run {run.id} is of other images than {data.name}.h5 holds now; {what_to_do}")
