"""The figures that the sources of the studies published, as they stand in `reference/*.csv`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

import pandas as pd

Paper = Literal["a", "b"]
PAPERS: tuple[Paper, ...] = ("a", "b")

# The scale of the two papers on Dynamic Training.
DATASET = "CIFAR-10"
POOL = 50_000
IMAGE_SHAPE = (32, 32, 3)
EPOCHS = 200
BEST_SET_EPOCHS = 80
GAMMA = 0.97
BETA = 0.7
# Of the grid: paper a says that its is of the scheme of its figure 4a, paper b has no scheme but this one.
GRID_SCHEMES: dict[Paper, str] = {"a": "base", "b": "best-set"}
DELTA = 0.01
# Subset sizes of the grid, largest first as published.
ALPHAS = (25_000, 20_000, 15_000)
# Images of the reported accuracy.
REPORTED_ON = 10_000
DEVICE = "GTX 1070"
_CLASSES = frozenset(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])


@dataclass(frozen=True)
class Figure:
    """One published result."""

    accuracy_percent: float
    seconds: float | None
    """On a GTX 1070; None where the paper gives none."""
    epochs: int | None
    place: str
    """The table or figure of the paper."""


def is_dataset(class_names: Iterable[str]) -> bool:
    """Whether these are the classes of the published data set, whatever the data set is called here."""
    return {name.lower() for name in class_names} == _CLASSES


@lru_cache
def grid(paper: Paper) -> dict[tuple[int, float], Figure]:
    """Tables 2 and 3, by (images of the subset, beta)."""
    rows = _read(f"dynamic_{paper}_grid.csv").itertuples()
    return {
        (row.alpha, row.beta): Figure(row.accuracy_percent, row.seconds_gtx1070, EPOCHS, "tables 2, 3") for row in rows
    }


def full(paper: Paper, augmentation: bool = False) -> Figure:
    """Training on the full pool (table 4), or with augmented images (table 5)."""
    return comparison(paper, share=1.0, augmentation=augmentation)[0]


def time_share(figure: Figure | None, paper: Paper, augmentation: bool = False) -> float | None:
    """A published time as a share of the same paper's training on the full pool."""
    whole = full(paper, augmentation).seconds
    return figure.seconds / whole if figure and figure.seconds and whole else None


def comparison(
    paper: Paper,
    share: float,
    variant: Literal["base", "best-set"] | None = None,
    augmentation: bool = False,
    dynamic: bool | None = None,
) -> list[Figure]:
    """Rows of tables 4 and 5 and of figures 11 and 12, in the order of the file.

    Args:
        paper: which paper.
        share: of the pool that an epoch trains on.
        variant: the scheme of Dynamic Training; None for rows that name none.
        augmentation: rows with augmented images.
        dynamic: rows with Dynamic Training; None: those that name a variant.
    """
    rows = _read("dynamic_comparison.csv")
    chosen = rows[
        (rows.source == paper)
        & (rows.train_fraction == share)
        & (rows.augmentation == augmentation)
        & (rows.dynamic == (variant is not None if dynamic is None else dynamic))
        & (rows.variant.isna() if variant is None else rows.variant == variant)
    ]
    return [
        Figure(row.accuracy_percent, _value(row.seconds_gtx1070), _whole(row.epochs), _place(row.table))
        for row in chosen.itertuples()
    ]


@lru_cache
def _read(name: str) -> pd.DataFrame:
    with resources.files("pydyn.report").joinpath("reference", name).open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _value(number: float) -> float | None:
    return None if pd.isna(number) else float(number)


def _whole(number: float) -> int | None:
    return None if pd.isna(number) else int(number)


def _place(table: str) -> str:
    return table.replace("fig", "figure ") if table.startswith("fig") else f"table {table}"


# The paper does not say which MobileNetV3.
FRUGAL_FOUR = (("resnet18",), ("resnet50",), ("densenet121",), ("mobilenet_v3_large", "mobilenet_v3_small"))
FRUGAL_BACKBONES = tuple(name for one_of in FRUGAL_FOUR for name in one_of)
_FRUGAL_DATASETS = {"breakhis": "breakhis", "brain-mri": "brain-cancer-mri", "brain-cancer-mri": "brain-cancer-mri"}


def frugal_change(dataset: str, quantity: str) -> tuple[float, float] | None:
    """Mean and std over four backbones of a change against fine-tuning, for a data set of the same name; None for others.

    `quantity`: accuracy_change_points, training_time_reduction_percent or emissions_reduction_percent.
    """
    rows = _read("frugal_comparison.csv")
    found = rows[(rows.dataset == _FRUGAL_DATASETS.get(dataset)) & (rows.quantity == quantity)]
    return None if found.empty else (float(found.iloc[0]["mean"]), float(found.iloc[0]["std"]))


def frugal_search() -> list[tuple[str, int, int, float, float, float]]:
    """Published searches: backbone, training images, combinations, seconds of fine-tuning and of the method, times faster."""
    rows = _read("frugal_search.csv").itertuples()
    return [
        (
            row.backbone,
            row.train_samples,
            row.combinations,
            row.fine_tuning_seconds,
            row.proposed_seconds,
            row.speedup,
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Outcome:
    """Of one training of the study `architectures`."""

    accuracy_percent: float
    loss: float


def architectures() -> dict[int, Outcome]:
    """Experiments 1, 2 and 4 (table 1)."""
    rows = _read("architectures.csv")
    return {
        int(row.experiment): Outcome(row.accuracy_percent, row.loss) for row in rows[rows.experiment != 3].itertuples()
    }


def architectures_grid() -> dict[tuple[float, int, int], Outcome]:
    """Experiment 3, by learning rate, batch size and epochs."""
    rows = _read("architectures.csv")
    return {
        (float(row.learning_rate), int(row.batch_size), int(row.epochs)): Outcome(row.accuracy_percent, row.loss)
        for row in rows[rows.experiment == 3].itertuples()
    }


def shapes_set(declaration: Mapping[str, Any]) -> str | None:
    """Which of the thesis's data sets a declaration of generated figures is: 1.2, 1.3 or 2.1; None for others."""
    size = tuple(declaration.get("size", ()))
    if declaration.get("source") != "shapes" or any(declaration.get(name) for name in ("shear", "shift", "noise")):
        return None
    if declaration.get("aspect") != 1 or declaration.get("image_size") != 28:
        return None
    known = {((0.1, 0.9), False): "1.2", ((0.3, 0.9), False): "1.3", ((0.7, 0.7), True): "2.1"}
    return known.get((size, bool(declaration.get("rotate"))))


def shapes_trainings(dataset: str, filters: str, epochs: int) -> list[float]:
    """Validation accuracies, in 0..1, of the thesis's trainings of a combination, as `16-4`; of one layer too, as `16`."""
    first, _, second = filters.partition("-")
    rows = _read("shapes_trainings.csv" if second else "shapes_one_layer.csv")
    chosen = rows[(rows.dataset.astype(str) == dataset) & (rows.filters1 == int(first)) & (rows.epochs == epochs)]
    if second:
        chosen = chosen[chosen.filters2 == int(second)]
    return [float(value) for value in chosen.validation_accuracy]


@dataclass(frozen=True)
class Pruned:
    """One step of the thesis's greedy pruning (tables 4, 6, 7, 9 to 11)."""

    removed: tuple[str, ...]
    """As `layer 1 F2`."""
    accuracy: float
    """In 0..1, without the filter removed; where several go together, without each of them alone."""


def shapes_pruning(dataset: str, filters: str) -> list[Pruned]:
    """The thesis's pruning of a network, as `16-4`, step by step; empty where it gives none."""
    first, _, second = filters.partition("-")
    rows = _read("shapes_pruning.csv")
    chosen = rows[rows.dataset.astype(str) == dataset]
    chosen = chosen[(chosen.filters1.astype(str) == first) & (chosen.filters2.astype(str) == second)]
    return [Pruned(tuple(map(_filter_name, str(row.removed).split())), row.accuracy) for row in chosen.itertuples()]


def _filter_name(place: str) -> str:
    layer, _, number = place.partition(".")
    return f"layer {layer} F{number}"
