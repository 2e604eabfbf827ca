"""The study `frugal` as the configuration declares it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pydyn.config.base import Count, Listed, Section
from pydyn.models.head_setting import HeadSetting
from pydyn.models.names import LITE0, Backbone
from pydyn.models.settings import AdaptationSetting, ExtractionSetting, FineTuningSetting

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Splits = Literal["declared", "image"]


class Heads(Section):
    """Heads on frozen features. Each combination of a learning rate and a weight decay is tried, all at once; the one with the
    best validation loss is what counts."""

    hidden: Count = 128
    """Units of the redesigned head."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    strength: Positive = 1.0
    """lambda of the ambiguity weight 1 + lambda (1 - margin)^kappa, where weighting is on."""
    power: NotNegative = 2.0
    """kappa."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """tau: the weight is 1 + lambda where the margin is below it and 1 elsewhere, and kappa has no part in it. None: as above."""
    normalisation: Literal["mean", "weighted_mean"] = "mean"
    """What the sum of a batch's weighted losses is divided by: `mean`, its number of images (the sum of their class weights,
    where these are on); `weighted_mean`, the sum of all their weights, so that ambiguity adds nothing to the loss."""
    learning_rates: Listed[Positive] = [3e-4, 1e-3, 3e-3]  # noqa: RUF012 (pydantic copies defaults)
    """Of AdamW."""
    weight_decays: Listed[NotNegative] = [1e-4, 1e-2]  # noqa: RUF012
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 64
    epochs: Count = 200
    """At most."""
    patience: Count = 20
    """Ends after so many epochs without a better validation loss."""

    @model_validator(mode="after")
    def _settings(self) -> Self:
        self.settings("redesigned", weighted=True, seed=0)
        return self

    def settings(self, kind: Literal["linear", "redesigned"], weighted: bool, seed: int) -> list[HeadSetting]:
        """One for each combination."""
        return [
            HeadSetting(
                kind=kind,
                learning_rate=rate,
                weight_decay=decay,
                strength=self.strength if weighted else 0.0,
                power=self.power,
                threshold=self.threshold,
                normalisation=self.normalisation,
                hidden=self.hidden if kind == "redesigned" else None,
                dropout=self.dropout if kind == "redesigned" else 0.0,
                batch_size=self.batch_size,
                seed=seed,
            )
            for rate in self.learning_rates
            for decay in self.weight_decays
        ]


class Search(Section):
    """Experiment 3: what a search over hyper-parameters costs, on features and by fine-tuning."""

    combinations: Listed[Annotated[int, Field(ge=1, le=10_000)]] = [10, 40, 160]  # noqa: RUF012
    """So many heads are trained at once, for each number; drawn at random, the first of them being the smaller numbers'."""
    samples: Listed[Count] = [1_000, 10_000, 100_000]  # noqa: RUF012
    """Numbers of training images that costs are given for: projected from what an image was measured to cost here."""


class FrugalStudy(Section):
    """The study `frugal`: heads on features of a frozen, adapted backbone, against fine-tuning all of it."""

    datasets: Listed[str]
    """Names under `datasets`."""
    backbones: Annotated[list[Backbone], Field(min_length=1)] = [Backbone(LITE0)]  # noqa: RUF012
    splits: Listed[Splits] = ["declared"]  # noqa: RUF012
    """`declared`: as each data set declares it. `image`: image by image, whatever groups there are, to see what groups that are
    torn apart are worth."""
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Each has a division of the images and draws of its own."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone, when it is adapted, extracted from and fine-tuned."""
    class_weights: bool = True
    """Weigh classes by the inverse of their frequency, in all trainings."""
    country: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "ESP"
    """ISO 3166, three letters: whose mix of electricity emissions are reckoned with. The paper was written in Spain."""
    adaptation: AdaptationSetting = AdaptationSetting()
    extraction: ExtractionSetting = ExtractionSetting()
    heads: Heads = Heads()
    fine_tuning: FineTuningSetting | None = FineTuningSetting()
    """Null: not run."""
    search: Search | None = None

    @model_validator(mode="after")
    def _labels(self) -> Self:
        labels = [backbone.label for backbone in self.backbones]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"backbones: {', '.join(twice)} is listed more than once, or two files share that name")
        return self

    def named_datasets(self) -> list[tuple[str, str]]:
        """Keys and names of the data sets that the section asks for."""
        return [("datasets", name) for name in self.datasets]
