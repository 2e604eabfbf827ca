"""Results as the report reads them: files of complete Runs, facts of image stores."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydyn.config.main import Config
from pydyn.data.copies import Copies, find_copies
from pydyn.data.listing import PARTS
from pydyn.data.store import ImageStore
from pydyn.errors import DataError, RunError
from pydyn.report.statistics import Estimate, estimate
from pydyn.studies.registry import STUDIES, experiments
from pydyn.studies.run import AnyRun, Run
from pydyn.training.history import Epoch, read_history
from pydyn.training.summary import Summary, read_summary

Value = Callable[[Summary], float]

MISSING = "run the workflow again, or let `pydyn report --partial` leave out what is missing"
"""What to do about a Run that is not complete."""


@dataclass(frozen=True)
class DataFacts:
    """What the report says of an image store."""

    name: str
    declaration: dict[str, Any]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    """Height, width, channels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    counts: NDArray[np.int64]
    """Images by class (rows) and split (columns, in the order of `PARTS`)."""
    skipped: dict[str, str]
    """Images of the source that could not be read, and why."""
    copies: Copies | None
    """Images that are the same as others; None without any."""

    @property
    def n_images(self) -> int:
        """Of all splits."""
        return int(self.counts.sum())

    @property
    def n_train(self) -> int:
        """Training images, those included that the protocol `holdout` holds out: no Run's pool under that protocol."""
        return int(self.counts[:, :2].sum())

    @property
    def n_test(self) -> int:
        """Test images."""
        return int(self.counts[:, 2].sum())

    @property
    def size(self) -> str:
        """As `32 × 32, RGB`."""
        height, width, channels = self.image_shape
        return f"{height} × {width}, {'grey' if channels == 1 else 'RGB'}"

    @property
    def source(self) -> str:
        """The kind of source, what it is called, and what told classes where folders did not."""
        kind = self.declaration.get("source", "unknown")
        named = self.declaration.get("name") or Path(self.declaration.get("path", "")).name
        labels = self.declaration.get("labels")
        told = f" (classes by {labels['column'] or 'a pattern over paths'})" if labels else ""
        return f"{kind} {named}{told}" if named else f"{kind} (generated)" if kind == "shapes" else kind


@dataclass(frozen=True)
class Result:
    """A complete Run with its files' content."""

    run: Run
    summary: Summary
    history: tuple[Epoch, ...]
    times_trained: NDArray[np.int32]
    """How often each image of the pool was trained on."""

    @property
    def place(self) -> str:
        """Where it was trained: seconds compare between Runs of one place, and of Runs that were moved not at all."""
        summary = self.summary
        threads = f"{summary.threads} thread{'' if summary.threads == 1 else 's'}"
        earlier = f", begun elsewhere ({'; '.join(summary.earlier_places)})" if summary.earlier_places else ""
        return f"{summary.device}, {summary.precision}, {threads}{earlier}"

    @property
    def seconds_waiting(self) -> float:
        """Of its seconds, those in which other work had the processors; NaN where the system did not tell."""
        return sum(epoch.seconds_waiting for epoch in self.history)


def timed_alike(*results: Result) -> bool:
    """Whether seconds of Runs compare."""
    return len({result.place for result in results}) == 1 and not any(r.summary.earlier_places for r in results)


@dataclass(frozen=True)
class Replicates:
    """Results that differ in the seed only."""

    results: tuple[Result, ...]

    def __post_init__(self) -> None:
        if len({result.run.setting for result in self.results}) != 1:
            raise ValueError("replicates need one setting and at least one Run")
        seeds = [result.run.seed for result in self.results]
        if len(set(seeds)) < len(seeds):
            # Counted twice, a Run would make n too large and the interval too small.
            raise ValueError(f"replicates of {self.run.setting} repeat a seed: {seeds}")

    @property
    def run(self) -> Run:
        """The first of the Runs: all but the seed holds for each."""
        return self.results[0].run

    @property
    def n_pool(self) -> int:
        """Images that each Run could train on: held-out ones are not among them."""
        return self.results[0].summary.n_pool

    @property
    def n_subset(self) -> int:
        """Images that an epoch trained on."""
        return self.run.strategy.subset_size(self.n_pool)

    @property
    def share(self) -> float:
        """Of its own pool that an epoch trained on."""
        return self.n_subset / self.n_pool

    def estimate(self, value: Value) -> Estimate:
        """Over the replicates."""
        return estimate([value(result.summary) for result in self.results])

    def by_seed(self, value: Value) -> dict[int, float]:
        """For pairs with other replicates."""
        return {result.run.seed: value(result.summary) for result in self.results}

    @property
    def times_trained(self) -> NDArray[np.int32]:
        """How often each image was trained on: one row per replicate, one column per image of the pool."""
        return np.stack([result.times_trained for result in self.results])

    def curves(self, value: Callable[[Epoch], float]) -> NDArray[np.float64]:
        """One row per replicate, one column per epoch."""
        return np.array([[value(epoch) for epoch in result.history] for result in self.results], dtype=np.float64)


@dataclass(frozen=True)
class StudyResults:
    """All that one study has to report."""

    config: Config
    name: str
    data: DataFacts
    experiments: dict[str, list[Result]]

    @cached_property
    def results(self) -> list[Result]:
        """Each Run once, in the order of the experiments."""
        return list({result.run: result for listed in self.experiments.values() for result in listed}.values())

    def replicates(self, experiment: str, protocol: str) -> list[Replicates]:
        """Of one experiment under one protocol, in the order of the configuration."""
        found: dict[str, dict[Run, Result]] = {}
        for result in self.experiments.get(experiment, []):
            if result.run.protocol == protocol:
                found.setdefault(result.run.setting, {})[result.run] = result
        return [Replicates(tuple(results.values())) for results in found.values()]


def accuracy_percent(summary: Summary) -> float:
    """As the protocol reports it."""
    return 100 * summary.reported_accuracy


def last_accuracy_percent(summary: Summary) -> float:
    """After the last epoch, on the images that the protocol reports."""
    at_last = summary.accuracy.test_at_last
    return 100 * (summary.accuracy.last_validation if at_last is None else at_last)


def reported_images(summary: Summary) -> int:
    """How many images the reported accuracy is of."""
    return summary.n_test or summary.n_validation


def total_seconds(summary: Summary) -> float:
    """Of training, evaluation and selection."""
    return summary.seconds.total


def read_study(config: Config, study: str, results: Path, left_out: Collection[AnyRun] = ()) -> StudyResults:
    """Read the store and the Runs, but for some, of a study that trains networks from scratch on one data set.

    Experiments without Runs are none. Raises DataError or RunError for what is missing, naming it and what to do.
    """
    (dataset,) = STUDIES[study].datasets(config)
    data = read_facts(dataset, results)
    listed: dict[str, list[Run]] = {
        name: kept
        for name, members in experiments(config, study).items()
        if (kept := [run for run in dict.fromkeys(members) if isinstance(run, Run) and run not in left_out])
    }
    read = {run: read_run(run, results, data) for run in {run: None for members in listed.values() for run in members}}
    return StudyResults(config, study, data, {name: [read[run] for run in members] for name, members in listed.items()})


def read_facts(name: str, results: Path) -> DataFacts:
    """Read an image store's facts. Raises DataError if it is missing, broken or of another data set."""
    with ImageStore.open(results / "data" / f"{name}.h5") as store:
        if store.name != name:
            raise DataError(f"{store.path} holds {store.name!r}, not {name!r}; delete it and run the workflow again")
        store.verify()
        counts = np.zeros((len(store.class_names), len(PARTS)), dtype=np.int64)
        np.add.at(counts, (store.labels, store.split), 1)
        return DataFacts(
            name=name,
            declaration=store.declaration,
            class_names=store.class_names,
            image_shape=store.image_shape,
            mean=tuple(store.mean.tolist()),
            std=tuple(store.std.tolist()),
            digest=store.digest,
            counts=counts,
            skipped=store.skipped,
            copies=find_copies(store),
        )


def read_run(run: Run, results: Path, data: DataFacts) -> Result:
    """A Run's files. Raises RunError if one is missing, spoilt, of another Run or of other data."""
    directory = run.directory(results)
    what_to_do = "remove that folder and run the workflow again"
    if not (directory / "summary.json").exists():
        raise RunError(f"Run {run.id} is not complete: {directory} has no summary.json; {MISSING}")
    try:
        summary, history = (
            read_summary(directory / "summary.json"),
            tuple(read_history(directory / "history.csv", Epoch)),
        )
    except RunError as error:
        raise RunError(f"Run {run.id} cannot be read: {error}") from None
    if summary.run != run:
        raise RunError(f"Run {run.id}: {directory} holds another Run ({summary.run.id}); {what_to_do}")
    if len(history) != run.epochs:
        raise RunError(f"Run {run.id}: its history has {len(history)} epochs instead of {run.epochs}; {what_to_do}")
    if not _agree(history, summary):
        raise RunError(f"Run {run.id}: history.csv and summary.json contradict each other; {what_to_do}")
    if summary.data != data.digest:
        raise RunError(f"Run {run.id} was trained on other images than {data.name}.h5 holds now; {what_to_do}")
    try:
        with (directory / "times_trained.npy").open("rb") as file:
            # np.load takes archives too, and ends in errors of theirs.
            times_trained = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # its reader takes a damaged header for Python, and raises what that does
        raise RunError(f"Run {run.id} cannot be read: times_trained.npy ({error}); {what_to_do}") from None
    if times_trained.shape != (summary.n_pool,) or times_trained.sum() != summary.images_trained:
        raise RunError(f"Run {run.id}: times_trained.npy and summary.json contradict each other; {what_to_do}")
    return Result(run, summary, history, times_trained)


def _agree(history: tuple[Epoch, ...], summary: Summary) -> bool:
    """Whether a history can be of the Run that the summary is of."""
    accuracies, said = [epoch.validation_accuracy for epoch in history], summary.accuracy
    return (
        [epoch.epoch for epoch in history] == list(range(1, len(history) + 1))
        and history[-1].images_trained == summary.images_trained
        and (max(accuracies), accuracies[-1]) == (said.best_validation, said.last_validation)
        and accuracies.index(said.best_validation) + 1 == said.best_epoch
    )
