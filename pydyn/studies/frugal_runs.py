"""What the study `frugal` extracts and trains, as immutable descriptions."""

from abc import abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydyn.errors import RunError
from pydyn.models.head_setting import HeadSetting
from pydyn.models.names import Backbone
from pydyn.models.settings import AdaptationSetting, FineTuningSetting
from pydyn.studies.run import AnyRun

Precision = Literal["auto", "fp32", "bf16"]
Splits = Literal["declared", "image"]


@dataclass(frozen=True)
class FeatureSet:
    """All images of a data set through one frozen backbone."""

    dataset: str
    backbone: Backbone
    precision: Precision
    batch_size: int
    dtype: Literal["float16", "float32"]
    adaptation: AdaptationSetting | None
    """None: the backbone as it comes. Else it was adapted to the training images of the division below."""
    splits: Splits | None
    seed: int | None

    @property
    def id(self) -> str:
        """Readable and stable: the folder of features below the study's."""
        adapted = "plain" if self.adaptation is None else f"adapted-{self.splits}-seed{self.seed}"
        return f"{self.dataset}/{self.backbone.label}/{adapted}"

    def directory(self, results: Path) -> Path:
        """Where its files live."""
        return results / "frugal" / "features" / self.id

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises TypeError or ValueError for other values."""
        adaptation = values["adaptation"]
        return cls(
            **{
                **values,
                "backbone": Backbone(**values["backbone"]),
                "adaptation": None if adaptation is None else AdaptationSetting(**adaptation),
            }
        )


class FrugalRun(AnyRun):
    """What all trainings of the study have in common."""

    complete = ("summary.json", "history.csv", "weights.safetensors", "predictions.csv")

    splits: Splits
    class_weights: bool
    country: str

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """Whose features, or which network."""


@dataclass(frozen=True)
class HeadRun(FrugalRun):
    """A head on features: several settings trained at once, the best by validation loss kept."""

    study: str
    features: FeatureSet
    splits: Splits
    purpose: Literal["ablation", "search"]
    weighted: bool
    """Whether ambiguous samples weigh more (ablation)."""
    settings: tuple[HeadSetting, ...]
    epochs: int
    patience: int
    class_weights: bool
    country: str
    seed: int

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """The features' data set."""
        return self.features.dataset

    @property
    def most_epochs(self) -> int:
        """Fewer where no setting gets better any more."""
        return self.epochs

    @property
    def backbone(self) -> Backbone:
        """Whose features."""
        return self.features.backbone

    @property
    def adapted(self) -> bool:
        """Whether the backbone was adapted."""
        return self.features.adaptation is not None

    @cached_property
    def setting(self) -> str:
        """As `breakhis/declared/resnet18-imagenet/adapted-redesigned-weighted`."""
        adapted = "adapted" if self.adapted else "plain"
        if self.purpose == "search":
            what = f"{adapted}-search{len(self.settings)}"
        else:
            what = f"{adapted}-{self.settings[0].kind}" + ("-weighted" if self.weighted else "")
        return f"{self.dataset}/{self.splits}/{self.backbone.label}/{what}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises RunError if the values are not such a Run's."""
        try:
            settings = tuple(HeadSetting(**setting) for setting in values["settings"])
            return cls(**{**values, "features": FeatureSet.from_dict(values["features"]), "settings": settings})
        except (TypeError, ValueError, KeyError) as error:
            raise RunError(f"not a Run of heads: {error}") from None


@dataclass(frozen=True)
class FineTuningRun(FrugalRun):
    """A whole network trained on images, its last layer anew: what the method is compared with."""

    study: str
    dataset: str
    network: Backbone
    splits: Splits
    fine_tuning: FineTuningSetting
    precision: Precision
    class_weights: bool
    country: str
    seed: int

    @property
    def most_epochs(self) -> int:
        """With each learning rate; fewer where it gets no better any more."""
        return self.fine_tuning.epochs * len(self.fine_tuning.learning_rates)

    @property
    def backbone(self) -> Backbone:
        """The network before its last layer."""
        return self.network

    @cached_property
    def setting(self) -> str:
        """As `breakhis/declared/resnet18-imagenet/fine-tuning`."""
        return f"{self.dataset}/{self.splits}/{self.network.label}/fine-tuning"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises RunError if the values are not such a Run's."""
        try:
            setting = {**values["fine_tuning"], "learning_rates": tuple(values["fine_tuning"]["learning_rates"])}
            changes = {"network": Backbone(**values["network"]), "fine_tuning": FineTuningSetting(**setting)}
            return cls(**{**values, **changes})
        except (TypeError, ValueError, KeyError) as error:
            raise RunError(f"not a Run of fine-tuning: {error}") from None
