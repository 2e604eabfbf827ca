"""What the page says of every Run, whatever its study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydyn.report.blocks import StudyReport
from pydyn.report.results import DataFacts, Result, last_accuracy_percent


@dataclass(frozen=True)
class RunFacts:
    """One row of the list of Runs, and where its figures come from."""

    study: str
    kind: str
    """What kind of Run of its study it is: Runs of one kind are trained by one code."""
    setting: str
    """Its id without the seed."""
    seed: int
    accuracy_percent: float
    """As its study reports it."""
    best_epoch: int
    epochs: int
    seconds: float
    device: str
    precision: str
    threads: int
    code: str
    """Digest of what trained it."""
    versions: Mapping[str, str]
    finished: str
    earlier_places: Sequence[str] = ()
    """Where it was trained before it went on in another place."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the CSV file."""


@dataclass(frozen=True)
class StudyPage:
    """All that a study brings to the page."""

    report: StudyReport
    data: Sequence[DataFacts]
    runs: Sequence[RunFacts]


def facts_of_network(result: Result, accuracy: float) -> RunFacts:
    """Of a network trained from scratch, whose study reports this accuracy, in percent."""
    run, summary = result.run, result.summary
    more = {
        "accuracy_at_last_epoch_percent": last_accuracy_percent(summary),
        "best_validation_percent": 100 * summary.accuracy.best_validation,
        "images_trained": summary.images_trained,
        "unique_images": summary.unique_images,
        "resamplings_1": summary.resamplings_1,
        "resamplings_2": summary.resamplings_2,
        "seconds_train": summary.seconds.train,
        "seconds_evaluate": summary.seconds.evaluate,
        "seconds_select": summary.seconds.select,
        "seconds_waiting": result.seconds_waiting,
        "sittings": summary.sittings,
    }
    return RunFacts(
        study=run.study,
        kind=run.strategy.name,
        setting=run.setting,
        seed=run.seed,
        accuracy_percent=accuracy,
        best_epoch=summary.accuracy.best_epoch,
        epochs=run.epochs,
        seconds=summary.seconds.total,
        device=summary.device,
        precision=summary.precision,
        threads=summary.threads,
        code=summary.code,
        versions=summary.versions,
        finished=summary.finished,
        earlier_places=summary.earlier_places,
        more=more,
    )
