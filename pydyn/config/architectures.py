"""The study `architectures` as the configuration declares it."""

from typing import Annotated, Literal

from pydantic import Field

from pydyn.config.base import Count, Listed, Section
from pydyn.config.studies import AnyStrategy
from pydyn.selection.dynamic import Dynamic

Positive = Annotated[float, Field(gt=0)]
Replicates = Annotated[int, Field(ge=1, le=10_000)]


class HyperparameterGrid(Section):
    """Experiment 3: the base network over epochs, batch sizes and learning rates, on a part of the training images."""

    epochs: Listed[Count] = [5, 10, 15]  # noqa: RUF012 (pydantic copies defaults)
    batch_sizes: Listed[Count] = [32, 64, 128]  # noqa: RUF012
    learning_rates: Listed[Positive] = [1e-2, 1e-3, 1e-4]  # noqa: RUF012
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the training images, drawn once for each seed; the source held the rest out and did not use it."""
    replicates: Replicates = 1


class ArchitecturesStudy(Section):
    """The study `architectures`: four experiments on CIFAR-10. Reported is the last epoch on the test images, as in the source,
    whose trainings decide nothing; Dynamic Training is steered by the test images (protocol `paper`)."""

    dataset: str
    """A name under `datasets`."""
    epochs: Count = 10
    """Of experiments 1, 2 and 4."""
    replicates: Replicates = 3
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    grid: HyperparameterGrid | None = HyperparameterGrid()
    """Null: not run."""
    strategies: list[AnyStrategy] = [Dynamic(alpha=0.5, beta=0.7, gamma=0.97)]  # noqa: RUF012
    """With which experiments 1, 2 and 4 are run again."""

    def named_datasets(self) -> list[tuple[str, str]]:
        """Keys and names of the data sets that the section asks for."""
        return [("dataset", self.dataset)]
