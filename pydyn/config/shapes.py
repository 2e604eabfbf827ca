"""The study `shapes` as the configuration declares it."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pydyn.config.base import Count, Listed, Section

Rate = Annotated[float, Field(gt=0)]
Replicates = Annotated[int, Field(ge=1, le=10_000)]


def _check_filters(value: str) -> str:
    parts = value.split("-")
    if len(parts) > 2 or not all(re.fullmatch(r"[1-9]\d?", part) and int(part) <= 64 for part in parts):
        raise ValueError(
            f"{value!r} is no combination of filters: one or two layers of 1 to 64, as 16-4; one layer in quotes"
        )
    return value


Filters = Annotated[
    str, AfterValidator(_check_filters), Field(json_schema_extra={"pattern": r"^[1-9]\d?(-[1-9]\d?)?$"})
]
"""Of the convolutional layers, one or two, 1 to 64 each, as the thesis writes them: `16-4`; of one layer `"16"`, in quotes."""
Initialiser = Literal["glorot_uniform", "he_normal", "normal_0.05", "normal_1"]
OptimiserName = Literal["sgd", "rmsprop", "adam"]
Pixels = Literal["bytes", "unit"]
LossName = Literal["clipped", "exact"]


class Optimiser(Section):
    """With Keras's defaults, the learning rate apart."""

    name: OptimiserName
    learning_rate: Rate


class TrainingSetting(Section):
    """How tiny networks are trained. The thesis names none of this: with these defaults trainings stick in its way, at 1/3 and
    2/3, though not as often on every data set (see the report)."""

    optimiser: OptimiserName = "adam"
    learning_rate: Rate = 1e-3
    initialiser: Initialiser = "glorot_uniform"
    pixels: Pixels = "bytes"
    """What a network sees: `bytes` of 0 to 255 as they are, or `unit`, divided by 255."""
    loss: LossName = "clipped"
    """`clipped`: cross-entropy as Keras took it up to version 2.2, of probabilities clipped to 1e-7 to 1 - 1e-7, which ends the
    gradient of an image beyond; `exact`: without clipping, as since."""
    output_relu: bool = False
    """A ReLU on the outputs, before the softmax."""


class Trainings(Section):
    """Combinations of filters trained on one data set."""

    dataset: str
    epochs: Count
    filters: Listed[Filters]


class Causes(Section):
    """Why trainings get stuck: every combination of these, for one network on one data set."""

    dataset: str
    filters: Filters
    epochs: Count
    initialisers: Listed[Initialiser] = ["glorot_uniform", "he_normal", "normal_0.05", "normal_1"]  # noqa: RUF012
    optimisers: Annotated[list[Optimiser], Field(min_length=1)] = [  # noqa: RUF012 (pydantic copies defaults)
        Optimiser(name="adam", learning_rate=1e-3),
        Optimiser(name="adam", learning_rate=1e-2),
        Optimiser(name="rmsprop", learning_rate=1e-3),
        Optimiser(name="rmsprop", learning_rate=1e-2),
        Optimiser(name="sgd", learning_rate=1e-3),
        Optimiser(name="sgd", learning_rate=1e-2),
    ]
    pixels: Listed[Pixels] = ["bytes", "unit"]  # noqa: RUF012
    losses: Listed[LossName] = ["clipped", "exact"]  # noqa: RUF012
    output_relu: Listed[bool] = [False, True]  # noqa: RUF012
    replicates: Replicates = 20


class Analysis(Section):
    """Of a network that learnt, of one of `trainings`: the first that has every validation image right, or else the first that
    learnt, or else the best."""

    dataset: str
    filters: Filters
    epochs: Count | None = None
    """Needed where these filters are trained on the data set for several numbers of epochs."""


class ShapesStudy(Section):
    """The study `shapes`: which tiny networks learn generated figures, why others do not, which filters matter."""

    trainings: Annotated[list[Trainings], Field(min_length=1)]
    replicates: Replicates = 20
    """Of each combination, with a seed each, trained side by side."""
    batch_size: Count = 32
    setting: TrainingSetting = TrainingSetting()
    causes: list[Causes] = []  # noqa: RUF012
    analyses: list[Analysis] = []  # noqa: RUF012
    similar_above: Annotated[float, Field(ge=-100, le=100)] = 90
    """Per cent of similarity from which on two filters are listed as alike."""
    interaction_above: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Change of a filter's effect on accuracy from which on two filters are listed as interacting."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[tuple[str, str, int]] = set()
        for trainings in self.trainings:
            for filters in trainings.filters:
                place = (trainings.dataset, filters, trainings.epochs)
                if place in seen:
                    raise ValueError(f"trainings lists {filters} on {place[0]!r} for {place[2]} epochs more than once")
                seen.add(place)
        for number, analysis in enumerate(self.analyses):
            name = f"analyses[{number}]: {analysis.filters} on {analysis.dataset!r}"
            found = [
                place
                for place in sorted(seen)
                if place[:2] == (analysis.dataset, analysis.filters) and analysis.epochs in (None, place[2])
            ]
            if not found:
                raise ValueError(f"{name} is not among the trainings; add it there")
            if len(found) > 1:
                allowed = " or ".join(str(place[2]) for place in found)
                raise ValueError(f"{name} is trained more than once; give `epochs`: {allowed}")
        causes = [(cause.dataset, cause.filters, cause.epochs) for cause in self.causes]
        if twice := [cause for cause in causes if causes.count(cause) > 1]:
            raise ValueError(f"causes lists {twice[0][1]} on {twice[0][0]!r} for {twice[0][2]} epochs more than once")
        return self

    def named_datasets(self) -> list[tuple[str, str]]:
        """Keys and names of the data sets that the section asks for."""
        return [
            *((f"trainings[{number}].dataset", part.dataset) for number, part in enumerate(self.trainings)),
            *((f"causes[{number}].dataset", cause.dataset) for number, cause in enumerate(self.causes)),
        ]
