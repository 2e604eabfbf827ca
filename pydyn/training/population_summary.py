"""Summary of a population: written once, when all its members are trained."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.studies.shapes_runs import PopulationRun

# The thesis's 19 and 8 trainings that learn are those above this; one of them ends at 0.998.
LEARNT = 0.99
# How far an accuracy may lie from a share of the classes and still be one: published ones lie within 0.0012.
NEAR = 0.005

LEARNT_NAME = "learnt"
OTHER_NAME = "other"
DIVERGED_NAME = "diverged"


def end_of(accuracy: float, n_classes: int) -> str:
    """How a training ended: `learnt`, `1/3` or `2/3` (images of so many classes of as many are classified correctly), `other`."""
    if accuracy >= LEARNT:
        return LEARNT_NAME
    for right in range(1, n_classes):
        if abs(accuracy - right / n_classes) <= NEAR:
            return f"{right}/{n_classes}"
    return OTHER_NAME


@dataclass(frozen=True)
class MemberEpoch:
    """One row of a population's history: one member's epoch."""

    seed: int
    epoch: int
    """From 1."""
    train_loss: float
    train_accuracy: float
    validation_accuracy: float
    dead_filters_1: int
    dead_filters_2: int
    """0 where there is no second layer."""
    dead_outputs: int
    unpredicted_classes: int


@dataclass(frozen=True)
class MemberResult:
    """How one network ended."""

    seed: int
    train_loss: float
    """Of the last epoch, each image seen once while the weights change; NaN where the training diverged."""
    train_accuracy: float
    """Likewise, in 0..1."""
    validation_accuracy: float
    """After the last epoch, in 0..1."""
    best_validation: float
    best_epoch: int
    dead_filters: list[int]
    """Of each layer, filters whose maps are 0 on every validation image."""
    dead_outputs: int
    """Outputs that are above 0 for no validation image."""
    unpredicted_classes: int
    """Classes that are predicted for no validation image."""


@dataclass(frozen=True)
class PopulationSummary:
    """What the report needs to know of a trained population."""

    run: PopulationRun
    fingerprint: str
    """Of the Run, its data and the code that trained it."""
    code: str
    data: str
    """The image store's digest."""
    members: list[MemberResult]
    n_train: int
    n_validation: int
    n_classes: int
    n_parameters: int
    """Of one network."""
    seconds: float
    """Wall time of all members' epochs."""
    device: str
    threads: int
    versions: dict[str, str]
    finished: str
    """ISO 8601, UTC."""
    earlier_places: list[str] = field(default_factory=list)
    """Where epochs of it were trained before it went on in another place, in order, each place once: device, torch, kernels.
    Empty for almost every Run; else the result is not, to the bit, that of an uninterrupted one."""

    def end(self, member: MemberResult) -> str:
        """How a member ended: as `end_of` says, or `diverged`."""
        if not math.isfinite(member.train_loss):
            return DIVERGED_NAME
        return end_of(member.validation_accuracy, self.n_classes)

    def dead_share(self, member: MemberResult) -> float:
        """Of a member's filters, in 0..1; NaN of one that diverged, whose numbers are worse than dead."""
        dead = sum(member.dead_filters) / sum(self.run.layers)
        return math.nan if self.end(member) == DIVERGED_NAME else dead

    @property
    def best_learnt(self) -> int | None:
        """Position of the first member with every validation image right, or else of the first that learnt; None if none did."""
        perfect = [member.validation_accuracy == 1 for member in self.members]
        learnt = [self.end(member) == LEARNT_NAME for member in self.members]
        return next((flags.index(True) for flags in (perfect, learnt) if True in flags), None)


def write_population_summary(path: Path, summary: PopulationSummary) -> None:
    """Write `summary.json`, whole or not at all."""
    write_text(path, json.dumps({**asdict(summary), "run": summary.run.to_dict()}, indent=2) + "\n")


def read_population_summary(path: Path) -> PopulationSummary:
    """Read `summary.json`. Raises RunError if it is missing or not a summary."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        members = [MemberResult(**member) for member in values["members"]]
        return PopulationSummary(
            **{**values, "run": PopulationRun.from_dict(values["run"]), "members": members},
        )
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the Run is not complete: run the workflow again") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RunError) as error:
        raise RunError(f"{path}: not a readable summary ({error}); remove its folder and run again") from None
