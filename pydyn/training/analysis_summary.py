"""Summary of the analyses of one network: written once, when they are complete."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.studies.shapes_runs import AnalysisRun

Matrix = list[list[float | None]]
"""None where there is no value."""


@dataclass(frozen=True)
class PrunedStep:
    """One column of the thesis's tables; filters as `layer 1 F2`, accuracies in 0..1."""

    accuracy: float
    without: dict[str, float]
    removed: list[str]


@dataclass(frozen=True)
class Contradicts:
    """A filter without which accuracy rises."""

    step: int
    filter: str
    accuracy: float
    without: float


@dataclass(frozen=True)
class Interacts:
    """A filter whose effect (the accuracy lost without it) is another one when others are gone."""

    step: int
    filter: str
    removed: list[str]
    before: float
    after: float


@dataclass(frozen=True)
class AlikeFilters:
    """Two filters of a layer."""

    layer: int
    """From 1."""
    first: str
    second: str
    kernel_percent: float | None
    activation_percent: float | None


@dataclass(frozen=True)
class RanksAgree:
    """Spearman's rank correlation of two rankings of a layer's filters; None if it has no value."""

    layer: int
    """From 1."""
    first: str
    second: str
    n_filters: int
    coefficient: float | None
    p_value: float | None


@dataclass(frozen=True)
class Failed:
    """A misclassified image: what it is called in its data set, classes by number, the figure's size (None: not known)."""

    image: str
    true: int
    predicted: int
    size: float | None


@dataclass(frozen=True)
class SizeRange:
    """Images with figures of a range of sizes."""

    low: float
    high: float
    n_images: int
    n_correct: int


@dataclass(frozen=True)
class ShownImage:
    """An image whose activation maps are shown."""

    image: str
    label: int
    size: float | None
    angle: float | None
    """Degrees."""


@dataclass(frozen=True)
class AnalysisSummary:
    """What the report needs to know of an analysed network."""

    run: AnalysisRun
    fingerprint: str
    code: str
    data: str
    """The image store's digest."""
    member_seed: int
    learnt: bool
    """False: no member learnt, and the best one is analysed."""
    parameters: str
    """SHA-256 of the network's parameters."""
    n_pruned_by: int
    """Images that it is pruned by, and that filters are compared on: those it was trained on."""
    n_images: int
    """Of the whole data set, which failures are of."""
    n_parameters: int
    accuracy: float
    """On the images that it is pruned by, in 0..1."""
    filters: list[str]
    steps: list[PrunedStep]
    left: list[str]
    """Filters that stay, one in each layer."""
    accuracy_left: float
    contradictions: list[Contradicts]
    interactions: list[Interacts]
    pairs: Matrix
    """How much the accuracy lost without a filter (row) grows when another (column) is gone."""
    scores: dict[str, list[float]]
    """By name, a number for each filter: what the rankings are of."""
    kernel_similarity: list[Matrix]
    activation_similarity: list[Matrix]
    alike: list[AlikeFilters]
    ranks: list[RanksAgree]
    failures: list[Failed]
    sizes: list[SizeRange]
    """Empty where sizes are not known, or all the same."""
    shown: list[ShownImage]
    seconds: float
    device: str
    threads: int
    versions: dict[str, str]
    finished: str
    """ISO 8601, UTC."""


def write_analysis_summary(path: Path, summary: AnalysisSummary) -> None:
    """Write `summary.json`, whole or not at all."""
    write_text(path, json.dumps({**asdict(summary), "run": summary.run.to_dict()}, indent=1) + "\n")


_PARTS = {
    "steps": PrunedStep,
    "contradictions": Contradicts,
    "interactions": Interacts,
    "alike": AlikeFilters,
    "ranks": RanksAgree,
    "failures": Failed,
    "sizes": SizeRange,
    "shown": ShownImage,
}


def read_analysis_summary(path: Path) -> AnalysisSummary:
    """Read `summary.json`. Raises RunError if it is missing or not a summary."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: [kind(**part) for part in values[name]] for name, kind in _PARTS.items()}
        return AnalysisSummary(**{**values, **parts, "run": AnalysisRun.from_dict(values["run"])})
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the Run is not complete: run the workflow again") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RunError) as error:
        raise RunError(f"{path}: not a readable summary ({error}); remove its folder and run again") from None
