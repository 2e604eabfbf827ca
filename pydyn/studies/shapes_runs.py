"""What the study `shapes` trains and analyses, as immutable descriptions."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from pydyn.config.shapes import Initialiser, LossName, OptimiserName, Pixels
from pydyn.errors import RunError
from pydyn.studies.run import AnyRun


@dataclass(frozen=True)
class PopulationRun(AnyRun):
    """Tiny networks of one architecture that differ in the seed, trained side by side."""

    complete = ("summary.json", "history.csv", "weights.safetensors")

    study: str
    dataset: str
    filters: str
    """As `16-4`."""
    epochs: int
    batch_size: int
    optimiser: OptimiserName
    learning_rate: float
    initialiser: Initialiser
    pixels: Pixels
    loss: LossName
    output_relu: bool
    members: int
    """Networks; of seeds `seed` and following."""
    seed: int

    @property
    def most_epochs(self) -> int:
        """All are trained."""
        return self.epochs

    @property
    def layers(self) -> tuple[int, ...]:
        """Filters of each convolutional layer."""
        return tuple(int(count) for count in self.filters.split("-"))

    @cached_property
    def training(self) -> str:
        """All but data set, filters and epochs, as `adam-lr0.001-glorot_uniform-bytes-clipped`."""
        tokens = [self.optimiser, f"lr{self.learning_rate:g}", self.initialiser, self.pixels, self.loss]
        return "-".join([*tokens, *(["output-relu"] if self.output_relu else [])])

    @cached_property
    def setting(self) -> str:
        """As `shapes-1.3/16-4/e40-bs32-adam-lr0.001-glorot_uniform-bytes-clipped/x20`."""
        return f"{self.dataset}/{self.filters}/e{self.epochs}-bs{self.batch_size}-{self.training}/x{self.members}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises RunError if the values are not such a Run's."""
        try:
            return cls(**values)
        except TypeError as error:
            raise RunError(f"not a Run of a population: {error}") from None


@dataclass(frozen=True)
class AnalysisRun(AnyRun):
    """The analyses of a population's first member that has learnt."""

    complete = ("summary.json", "maps.safetensors", "images.safetensors")

    study: str
    population: PopulationRun
    similar_above: float
    interaction_above: float
    seed: int

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """The population's."""
        return self.population.dataset

    @cached_property
    def setting(self) -> str:
        """As `analyses/shapes-1.3/16-4/...`."""
        return f"analyses/{self.population.setting}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises RunError if the values are not such a Run's."""
        try:
            return cls(**{**values, "population": PopulationRun.from_dict(values["population"])})
        except (TypeError, KeyError) as error:
            raise RunError(f"not a Run of an analysis: {error}") from None
