"""What the page says of every Run, whatever its study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydyn.report.blocks import StudyReport
from pydyn.report.results import DataFacts


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
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the CSV file."""


@dataclass(frozen=True)
class StudyPage:
    """All that a study brings to the page."""

    report: StudyReport
    data: Sequence[DataFacts]
    runs: Sequence[RunFacts]
