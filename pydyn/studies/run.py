"""A Run: the whole truth about one training."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydyn.errors import RunError
from pydyn.selection.registry import from_dict
from pydyn.selection.strategy import Parameters

# What the papers use: not spelled out in a Run's id.
PUBLISHED_BATCH_SIZE = 512
PUBLISHED_LEARNING_RATE = 1e-3


class AnyRun(ABC):
    """An immutable description of one training, whatever is trained. Subclasses are frozen dataclasses of plain values."""

    complete: ClassVar[tuple[str, ...]]
    """Files that a complete Run leaves in its folder."""

    study: str
    dataset: str
    """A data set's name; its store carries the digest of its content."""
    seed: int

    @property
    @abstractmethod
    def setting(self) -> str:
        """What replicates have in common: the id without the seed."""

    @property
    def id(self) -> str:
        """Readable and stable: the Run's folder below its study's."""
        return f"{self.setting}/seed{self.seed}"

    @property
    def most_epochs(self) -> int:
        """Epochs that it can take; 1 for what is not trained in epochs."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `run.json`."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def directory(self, results: Path) -> Path:
        """Where the Run's files live."""
        return results / self.study / "runs" / self.id

    def is_complete(self, results: Path) -> bool:
        """Whether all files of a complete Run are there; what is in them, the readers check."""
        return all((self.directory(results) / name).is_file() for name in self.complete)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all fields, in hex."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Run(AnyRun):
    """A network trained on images from scratch. Two equal Runs on one device give bit-identical histories."""

    complete = ("summary.json", "history.csv", "weights.safetensors", "times_trained.npy")

    study: str
    dataset: str
    protocol: Literal["paper", "holdout"]
    model: str
    batch_norm: bool
    strategy: Parameters
    epochs: int
    batch_size: int
    learning_rate: float
    """Of Adam."""
    precision: Literal["auto", "fp32", "bf16"]
    augmentation: Literal["none", "crop-flip", "rotate-shift-flip"]
    """Anew for each image and epoch. `crop-flip`: a random crop of the image with 4 black pixels around it, mirrored or not.
    `rotate-shift-flip`: turned by up to 15 degrees, moved by up to a tenth of its size, mirrored or not."""
    seed: int

    @property
    def most_epochs(self) -> int:
        """All are trained."""
        return self.epochs

    @cached_property
    def setting(self) -> str:
        """What replicates have in common: the id without the seed."""
        tokens = [self.strategy.label, f"e{self.epochs}"]
        if self.batch_size != PUBLISHED_BATCH_SIZE:
            tokens.append(f"bs{self.batch_size}")
        if self.learning_rate != PUBLISHED_LEARNING_RATE:
            tokens.append(f"lr{self.learning_rate:g}")
        if self.precision != "auto":
            tokens.append(self.precision)
        if self.augmentation != "none":
            tokens.append(self.augmentation)
        model = self.model + ("-bn" if self.batch_norm else "")
        return "/".join([self.dataset, self.protocol, model, "-".join(tokens)])

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Run:
        """The inverse of `to_dict`. Raises RunError if the values are not a Run's."""
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise RunError(f"not a Run: keys {sorted(set(values) ^ expected)} are missing or unknown")
        try:
            return cls(**{**values, "strategy": from_dict(values["strategy"])})
        except (TypeError, ValueError) as error:
            raise RunError(f"not a Run: {error}") from None
