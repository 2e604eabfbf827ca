"""Summary of a Run of the study `frugal`: written once, when the Run is complete."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydyn.energy import Reading
from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.metrics import Metrics
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun


@dataclass(frozen=True)
class FrugalSummary:
    """What the report needs to know of a complete Run."""

    run: FrugalRun
    fingerprint: str
    """Of the Run, its data or features and the code that trained it."""
    code: str
    data: str
    """The image store's digest."""
    chosen: dict[str, Any]
    """What won on the validation images: a head's setting, or a learning rate."""
    n_candidates: int
    """Of how many."""
    best_epoch: int
    epochs: int
    """That the winner ran."""
    validation: Metrics
    test: Metrics
    n_train: int
    n_validation: int
    n_test: int
    n_parameters: int
    """Numbers that training changed."""
    costs: dict[str, Reading]
    """What it took, by stage. Heads: `adaptation` (if adapted), `extraction` (of training and validation images) and `training`
    (of all candidates at once). Fine-tuning: `training` (of the winner alone) and `search` (of all candidates)."""
    device: str
    precision: str
    threads: int
    versions: dict[str, str]
    finished: str
    """ISO 8601, UTC."""
    earlier_places: list[str] = field(default_factory=list)
    """Where epochs of a fine-tuning were trained before it went on in another place, in order, each place once: device, threads,
    precision, torch. Empty for almost every Run; else the result is not, to the bit, that of an uninterrupted one."""
    elsewhere: list[str] = field(default_factory=list)
    """Of heads: other places (device, threads) than this Run's in which its backbone was adapted or features extracted. Its costs
    are of several machines then."""


def write_frugal_summary(path: Path, summary: FrugalSummary) -> None:
    """Write `summary.json`, whole or not at all."""
    content = {**asdict(summary), "run": summary.run.to_dict()}
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_frugal_summary(path: Path) -> FrugalSummary:
    """Read `summary.json`. Raises RunError if it is missing or not a summary."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = HeadRun if "features" in values["run"] else FineTuningRun
        return FrugalSummary(
            **{
                **values,
                "run": kind.from_dict(values["run"]),
                "validation": Metrics(**values["validation"]),
                "test": Metrics(**values["test"]),
                "costs": {name: Reading.from_dict(reading) for name, reading in values["costs"].items()},
            }
        )
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the Run is not complete: run the workflow again") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RunError) as error:
        raise RunError(f"{path}: not a readable summary ({error}); remove its folder and run again") from None
