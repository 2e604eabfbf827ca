"""A Run's summary: written once, when the Run is complete. Its presence is what completeness means."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.studies.run import Run


@dataclass(frozen=True)
class DeadUnits:
    """Units of one layer with a ReLU that never let anything through."""

    layer: int
    """Position in the network, from 0."""
    units: int
    """Filters of a convolution, or units of a dense layer."""
    dead: int
    """How many of them are 0 on every image, everywhere."""


@dataclass(frozen=True)
class Accuracy:
    """Shares of correctly classified images, in 0..1."""

    best_validation: float
    """The maximum over epochs, on the images that steer the selection."""
    best_epoch: int
    """The first epoch that reached it."""
    last_validation: float
    test_at_last: float | None
    """On test images that steered nothing (protocol holdout), after the last epoch."""
    test_at_best: float | None
    """Likewise, with the weights of the best epoch by the held-out images."""


@dataclass(frozen=True)
class Seconds:
    """Wall time of the epochs in the history; what a killed process did after its last checkpoint is not in it."""

    train: float
    evaluate: float
    """Once an epoch, on the images that steer the selection."""
    select: float
    """Choosing subsets."""

    @property
    def total(self) -> float:
        """What the Run cost, the set-up of its process apart."""
        return self.train + self.evaluate + self.select


@dataclass(frozen=True)
class Summary:
    """What the report needs to know of a complete Run."""

    run: Run
    fingerprint: str
    """Of the Run, its data and the code that trained it: what it takes to be the same."""
    code: str
    data: str
    accuracy: Accuracy
    seconds: Seconds
    n_pool: int
    n_validation: int
    n_test: int
    """0 under the protocol paper, where the test images are the validation set."""
    n_parameters: int
    images_trained: int
    unique_images: int
    resamplings_1: int
    resamplings_2: int
    confusion: list[list[int]]
    """After the last epoch, on the images reported on: images of class i (rows) taken for class j (columns)."""
    dead_units: list[DeadUnits]
    """Likewise: of each layer with a ReLU, the units that are 0 on every image."""
    device: str
    precision: str
    threads: int
    sittings: int
    """Processes that worked on the Run: more than 1 if it was resumed."""
    versions: dict[str, str]
    finished: str
    """ISO 8601, UTC."""
    earlier_places: list[str] = field(default_factory=list)
    """Where epochs of it were trained before it went on in another place, in order, each place once: device, threads, precision,
    torch, kernels. Empty for almost every Run; else the result is not, to the bit, that of an uninterrupted one."""

    @property
    def reported_accuracy(self) -> float:
        """The protocol's headline: the maximum on the validation set (paper), or the test set at the best epoch (holdout)."""
        at_best = self.accuracy.test_at_best
        return self.accuracy.best_validation if at_best is None else at_best


def write_summary(path: Path, summary: Summary) -> None:
    """Write `summary.json`, whole or not at all."""
    write_text(path, json.dumps({**asdict(summary), "run": summary.run.to_dict()}, indent=2) + "\n")


def read_summary(path: Path) -> Summary:
    """Read `summary.json`. Raises RunError if it is missing or not a summary."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for part in ("accuracy", "seconds"):
            if not all(value is None or isinstance(value, int | float) for value in values[part].values()):
                raise ValueError(f"{part} holds what is no number")
        return Summary(
            **{
                **values,
                "run": Run.from_dict(values["run"]),
                "accuracy": Accuracy(**values["accuracy"]),
                "seconds": Seconds(**values["seconds"]),
                "dead_units": [DeadUnits(**layer) for layer in values["dead_units"]],
            }
        )
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the Run is not complete: run the workflow again") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RunError) as error:
        raise RunError(f"{path}: not a readable summary ({error}); remove its folder and run again") from None
