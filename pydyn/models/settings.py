"""How frozen and fine-tuned networks are adapted, extracted from and trained, as declared: no torch needed to read it.

Each refuses wrong values with a ValueError; configuration and library use the same classes.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False, "use_attribute_docstrings": True}
"""For pydantic, where a configuration holds one: unknown keys and wrong types are refused, and the schema has the docstrings."""


@dataclass(frozen=True)
class AdaptationSetting:
    """How statistics of batch normalisation are adapted. The paper of the study `frugal` (section 2) gives no values."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    momentum: float | None = 0.1
    """Weight of a batch's statistics in the running ones, in (0, 1]. None: 1 / t at batch t, the mean over all batches, of which
    nothing is left of the old statistics. At 0.1, torch's for training, an eighth of them is left after 20 batches: where the old
    variances are many times the new ones, features are then far from adapted ones still."""
    threshold: float = 0.001
    """Ends when ||m_t - m_(t-1)|| / ||m_(t-1)|| falls below it, m_t being all running means after batch t, one behind the other;
    at least 0, which never ends it."""
    max_batches: int = 50
    """Ends at the latest after so many batches."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.momentum is not None and not 0 < self.momentum <= 1:
            raise ValueError(f"momentum = {self.momentum} must be above 0 and at most 1")
        if self.threshold < 0:
            raise ValueError(f"threshold = {self.threshold} must be at least 0")
        _check_counts(self, "max_batches", "batch_size")
        _check_batch(self.batch_size)

    def weight(self, batch: int) -> float:
        """Weight of the statistics of this batch, of 1 and up, in the running ones."""
        return 1 / batch if self.momentum is None else self.momentum

    def share_adapted(self, batches: int) -> float:
        """Share of the running statistics that is of the new images after so many batches, in [0, 1]."""
        return 1 - (1 - self.weight(1)) ** batches


@dataclass(frozen=True)
class ExtractionSetting:
    """How features are extracted."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    batch_size: int = 32
    """Images at a time."""
    dtype: Literal["float16", "float32"] = "float16"
    """As they are stored."""
    shards: int = 1
    """Files that jobs of their own may write at the same time; one that is killed is all that is lost."""

    def __post_init__(self) -> None:
        _check_counts(self, "batch_size", "shards")


@dataclass(frozen=True)
class FineTuningSetting:
    """How a whole network is trained, its last layer anew."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    learning_rates: tuple[float, ...] = (3e-4, 1e-4)
    """Of AdamW; each is tried, and the one with the best validation loss is what counts."""
    weight_decay: float = 1e-4
    batch_size: int = 32
    epochs: int = 10
    """At most."""
    patience: int = 3
    """Ends after so many epochs without a better validation loss."""
    augmentation: Literal["none", "crop-flip"] = "crop-flip"

    def __post_init__(self) -> None:
        if not self.learning_rates or not all(rate > 0 for rate in self.learning_rates):
            raise ValueError(f"learning_rates = {list(self.learning_rates)} must be one or more numbers above 0")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError(
                f"learning_rates = {list(self.learning_rates)} must name each number once: each is trained"
            )
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay = {self.weight_decay} must be at least 0")
        _check_counts(self, "batch_size", "epochs", "patience")
        _check_batch(self.batch_size)


def _check_counts(setting: Any, *names: str) -> None:
    known = {field.name for field in fields(setting)}
    for name in names:
        assert name in known
        if not 1 <= getattr(setting, name) <= 100_000:
            raise ValueError(f"{name} = {getattr(setting, name)} must be from 1 to 100,000")


def _check_batch(batch_size: int) -> None:
    """Of a batch of one image, batch normalisation may have nothing to take a variance of."""
    if batch_size < 2:
        raise ValueError(f"batch_size = {batch_size} must be at least 2")
