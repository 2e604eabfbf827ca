"""The studies as the configuration declares them: a section each."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pydyn.config.base import Count, Listed, Section
from pydyn.selection import registry
from pydyn.selection.dynamic import Dynamic

Positive = Annotated[float, Field(gt=0)]
AnyStrategy = Annotated[registry.AnyStrategy, Field(discriminator="name")]
Protocol = Literal["paper", "holdout"]


class Grid(Section):
    """Experiment 1: Dynamic Training for every alpha, beta and gamma (tables 2 and 3)."""

    alpha: Listed[int | float]
    beta: Listed[float]
    gamma: Listed[float]
    """Section 4 of the papers fixes 0.97; 1 keeps beta constant."""
    scheme: Literal["base", "best-set"] = "base"
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 1

    @field_validator("gamma")
    @classmethod
    def _told_apart(cls, gammas: list[float]) -> list[float]:
        # An id leaves out a gamma of 1, so that of two that read alike the ids may differ.
        first: dict[str, float] = {}
        for gamma in gammas:
            if (other := first.setdefault(f"{gamma:g}", gamma)) != gamma:
                raise ValueError(
                    f"{other} and {gamma} are the same in six digits, which is what the report's tables of the grid are named "
                    "by; choose values that differ in them, or leave one out"
                )
        return gammas

    @model_validator(mode="after")
    def _strategies(self) -> Self:
        self.strategies()
        return self

    def strategies(self) -> list[Dynamic]:
        """One per cell."""
        return [
            Dynamic(scheme=self.scheme, alpha=alpha, beta=beta, gamma=gamma)
            for gamma in self.gamma
            for alpha in self.alpha
            for beta in self.beta
        ]


class Trial(Section):
    """One row of a comparison."""

    strategy: AnyStrategy
    epochs: Count | None = None
    """None: as many as the study."""


class Comparison(Section):
    """Experiment 2: strategies side by side (table 4, figures 8 to 11)."""

    trials: Annotated[list[Trial], Field(min_length=1)]
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 1


class Robustness(Section):
    """Experiment 3: replicates of few strategies, mean and spread per epoch (figure 12)."""

    trials: Annotated[list[Trial], Field(min_length=1)]
    replicates: Annotated[int, Field(ge=2, le=10_000)] = 20


class Augmentation(Section):
    """Experiment 4: strategies on augmented images (table 5, figure 13)."""

    recipe: Literal["crop-flip", "rotate-shift-flip"] = "crop-flip"
    """`crop-flip`: random crops with 4 pixels of padding, and mirroring; `rotate-shift-flip`: turned by up
    to 15 degrees, moved by up to a tenth of the image, and mirrored."""
    trials: Annotated[list[Trial], Field(min_length=1)]
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 20


class DynamicStudy(Section):
    """The study `dynamic`: Dynamic Training against its controls."""

    dataset: str
    """A name under `datasets`."""
    model: Literal["cnn_a", "cnn_b"] = "cnn_a"
    batch_norm: bool = False
    protocols: Listed[Protocol]
    """`paper`: decisions and the reported maximum use the test images, as published. `holdout`: decisions use images held out
    of the pool, the reported figure is of the untouched test images."""
    epochs: Count = 200
    batch_size: Count = 512
    learning_rate: Positive = 1e-3
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where the device computes it faster than fp32 (CPUs with AMX or AVX512-BF16, GPUs from Ampere on)."""
    grid: Grid | None = None
    comparison: Comparison | None = None
    robustness: Robustness | None = None
    augmentation: Augmentation | None = None

    def named_datasets(self) -> list[tuple[str, str]]:
        """Keys and names of the data sets that the section asks for."""
        return [("dataset", self.dataset)]
