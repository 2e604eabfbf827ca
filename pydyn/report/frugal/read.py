"""Results of the study `frugal` as the report reads them."""

import csv
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from pydyn.config.frugal import FrugalStudy
from pydyn.config.main import Config
from pydyn.energy import Reading
from pydyn.errors import RunError
from pydyn.features.store import ADAPTED
from pydyn.report.results import MISSING, DataFacts, read_facts
from pydyn.report.statistics import Estimate, estimate, paired_difference
from pydyn.studies.frugal import datasets, experiments
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.studies.run import AnyRun
from pydyn.training.frugal_summary import FrugalSummary, read_frugal_summary

Value = Callable[[FrugalSummary], float]


@dataclass(frozen=True)
class Row:
    """Replicates of one setting: a division of the images and draws of its own each."""

    results: tuple[FrugalSummary, ...]
    folder: Path
    """Of all results."""
    given: bool
    """Whether the test images came with the data set: all replicates share them then."""

    @property
    def run(self) -> FrugalRun:
        """The first of the Runs: all but the seed and what follows from it holds for each."""
        return self.results[0].run

    @property
    def is_fine_tuning(self) -> bool:
        """Whether it is the rival."""
        return isinstance(self.run, FineTuningRun)

    @property
    def is_proposed(self) -> bool:
        """Whether it is the paper's method whole: adapted, redesigned head, weighted."""
        run = self.run
        return isinstance(run, HeadRun) and run.adapted and run.weighted and run.settings[0].kind == "redesigned"

    @property
    def name(self) -> str:
        """In words."""
        if self.is_fine_tuning:
            return "fine-tuning"
        return name_of(*self.parts) + (" (proposed)" if self.is_proposed else "")

    @property
    def parts(self) -> tuple[bool, bool, bool]:
        """Of heads: whether adapted, redesigned, weighted."""
        run = self.run
        assert isinstance(run, HeadRun)
        return run.adapted, run.settings[0].kind == "redesigned", run.weighted

    @property
    def place(self) -> tuple[str, str, str]:
        """Data set, backbone, kind of division."""
        return self.run.dataset, self.run.backbone.label, self.run.splits

    def by_seed(self, value: Value) -> dict[int, float]:
        """For pairs with other rows."""
        return {summary.run.seed: value(summary) for summary in self.results}

    @property
    def redrawn(self) -> float:
        """Test images over all others, where each replicate divides the same images anew; else 0."""
        if self.given:
            return 0.0
        # Validation images are of these others: they choose epochs and rates, and are another replicate's test images.
        return float(np.mean([each.n_test / (each.n_train + each.n_validation) for each in self.results]))

    def estimate(self, value: Value) -> Estimate | None:
        """Of a measure on test images, over the replicates; None if one of them has no such figure."""
        return self._estimate(value, self.redrawn)

    def estimate_cost(self, value: Value) -> Estimate | None:
        """Of what training took, which hardly depends on the images, over the replicates; None likewise."""
        return self._estimate(value, 0.0)

    def _estimate(self, value: Value, redrawn: float) -> Estimate | None:
        values = [value(summary) for summary in self.results]
        return None if any(v is None or np.isnan(v) for v in values) else estimate(values, redrawn)

    def against(self, other: "Row", value: Value) -> Estimate | None:
        """This row less another, a measure on test images, paired by seed: both replicates saw the same images."""
        return paired_difference(self.by_seed(value), other.by_seed(value), self.redrawn)

    @cached_property
    def predictions(self) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Of each replicate: class probabilities (n, C) and labels (n,) of its test images."""
        return [read_predictions(summary, self.folder) for summary in self.results]


def name_of(adapted: bool, redesigned: bool, weighted: bool) -> str:
    """Heads by their parts."""
    head = "redesigned head" if redesigned else "linear head"
    return f"{'adapted' if adapted else 'as it comes'}, {head}, {'weighted' if weighted else 'unweighted'}"


def accuracy(summary: FrugalSummary) -> float:
    """On the test images, in percent."""
    return 100 * summary.test.accuracy


def balanced_accuracy(summary: FrugalSummary) -> float:
    """On the test images, in percent."""
    return 100 * summary.test.balanced_accuracy


def cost(summary: FrugalSummary) -> list[Reading]:
    """What counts as the training's cost. Heads: adaptation, extraction of training and validation images, all candidates.
    Fine-tuning: the learning rate that won, alone."""
    return [reading for stage, reading in summary.costs.items() if stage != "search"]


def seconds(summary: FrugalSummary) -> float:
    """Of `cost`."""
    return sum(reading.seconds for reading in cost(summary))


def seconds_waiting(summary: FrugalSummary) -> float:
    """Of `seconds`, those in which other work had the processors; NaN where a stage does not tell."""
    waits = (reading.seconds_waiting for reading in cost(summary))
    return sum(float("nan") if wait is None else wait for wait in waits)


def seconds_in_all(summary: FrugalSummary) -> float:
    """With all that was tried: the learning rates too that did not win."""
    return summary.costs["search"].seconds if "search" in summary.costs else seconds(summary)


def kg_co2(summary: FrugalSummary) -> float:
    """Of `cost`; NaN if a stage has no reading."""
    return sum(float("nan") if reading.kg_co2 is None else reading.kg_co2 for reading in cost(summary))


def kwh(summary: FrugalSummary) -> float:
    """Of `cost`; NaN if a stage has no reading."""
    return sum(float("nan") if reading.kwh is None else reading.kwh for reading in cost(summary))


@dataclass(frozen=True)
class FrugalResults:
    """All that the study has to report."""

    config: Config
    folder: Path
    data: Mapping[str, DataFacts]
    summaries: Mapping[str, tuple[FrugalSummary, ...]]
    """By experiment."""

    @property
    def study(self) -> FrugalStudy:
        """As configured."""
        assert self.config.frugal is not None
        return self.config.frugal

    @property
    def main_splits(self) -> str:
        """The kind of division that the findings are of: every data set has it; of both its own counts."""
        return "declared" if "declared" in self.study.splits else "image"

    @property
    def every(self) -> list[FrugalSummary]:
        """Each Run once."""
        return [summary for listed in self.summaries.values() for summary in listed]

    def rows(self, experiment: str) -> list[Row]:
        """Of an experiment, in the order of the configuration."""
        found: dict[str, list[FrugalSummary]] = {}
        for summary in self.summaries.get(experiment, ()):
            found.setdefault(summary.run.setting, []).append(summary)
        return [
            Row(tuple(listed), self.folder, self.config.datasets[listed[0].run.dataset].split.method == "given")
            for listed in found.values()
        ]

    def places(self) -> dict[tuple[str, str, str], list[Row]]:
        """Rows of heads and of fine-tuning by data set, backbone and kind of division; fine-tuning first."""
        found: dict[tuple[str, str, str], list[Row]] = {}
        for row in [*self.rows("fine-tuning"), *self.rows("ablation")]:
            found.setdefault(row.place, []).append(row)
        return found


def on_one_machine(ours: Row, rival: Row) -> bool:
    """Whether what two rows took compares: every stage on one device, with as many threads, none moved while it was trained."""
    every = [*ours.results, *rival.results]
    return len({(summary.device, summary.threads) for summary in every}) == 1 and not any(
        summary.earlier_places or summary.elsewhere for summary in every
    )


def fine_tuning_of(rows: list[Row]) -> Row | None:
    """The rival among the rows of a place."""
    return next((row for row in rows if row.is_fine_tuning), None)


def proposed_of(rows: list[Row]) -> Row | None:
    """The method among the rows of a place."""
    return next((row for row in rows if row.is_proposed), None)


def read_frugal(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> FrugalResults:
    """Read the study's Runs, but for some, and their image stores.

    Experiments without Runs are none. Raises DataError or RunError for what is missing, naming it and what to do.
    """
    listed = {
        experiment: kept
        for experiment, runs in experiments(config).items()
        if (kept := [run for run in dict.fromkeys(runs) if run not in left_out])
    }
    named = {run.dataset for runs in listed.values() for run in runs}
    data = {name: read_facts(name, results) for name in datasets(config) if name in named}
    summaries = {
        experiment: tuple(read_frugal_run(run, results, data[run.dataset]) for run in runs)
        for experiment, runs in listed.items()
    }
    return FrugalResults(config, results, data, summaries)


def read_frugal_run(run: FrugalRun, results: Path, data: DataFacts) -> FrugalSummary:
    """A Run's summary. Raises RunError if it is missing, spoilt, of another Run or of other data."""
    path = run.directory(results) / "summary.json"
    what_to_do = "remove that folder and run the workflow again"
    if not path.exists():
        raise RunError(f"Run {run.id} is not complete: {path.parent} has no summary.json; {MISSING}")
    summary = read_frugal_summary(path)
    if summary.run != run:
        raise RunError(f"Run {run.id}: {path.parent} holds another Run ({summary.run.id}); {what_to_do}")
    if summary.data != data.digest:
        raise RunError(f"Run {run.id} was trained on other images than {data.name}.h5 holds now; {what_to_do}")
    return summary


def read_predictions(summary: FrugalSummary, results: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Class probabilities (n, C) and labels (n,) of a Run's test images. Raises RunError if the file is spoilt or another's."""
    path = summary.run.directory(results) / "predictions.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        names = [column[2:-1] for column in header[4:]]
        probabilities = np.array([[float(chance) for chance in row[4:]] for row in rows])
        labels, predicted = (np.array([names.index(row[column]) for row in rows], dtype=np.int64) for column in (2, 3))
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(confusion, (labels, predicted), 1)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise RunError(f"{path}: not readable as predictions ({error}); remove its folder and run again") from None
    # A file that lost its last lines reads as well as a whole one.
    if confusion.tolist() != summary.test.confusion:
        raise RunError(f"{path}: contradicts summary.json beside it; remove their folder and run again")
    return probabilities, labels


def read_changes(run: HeadRun, results: Path) -> list[float]:
    """Change of the running means at each batch when a Run's backbone was adapted. Raises RunError if the file is spoilt."""
    path = run.features.directory(results) / ADAPTED
    try:
        with safe_open(path, "pt") as file:
            return [float(change) for change in json.loads(file.metadata()["pydyn"])["changes"]]
    except Exception as error:  # safetensors has an exception of its own for each fault
        raise RunError(f"{path} cannot be read ({error}); delete it and run the workflow again") from None
