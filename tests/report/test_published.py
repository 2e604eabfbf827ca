import csv
from importlib import resources
from typing import Any

import pytest

from pydyn.config.datasets import ShapesDataset
from pydyn.report import published
from pydyn.report.published import PAPERS, Figure, Paper
from pydyn.training.population_summary import end_of

REFERENCE = resources.files("pydyn.report") / "reference"


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((REFERENCE / name).read_text().splitlines()))


@pytest.mark.parametrize("paper", PAPERS)
def test_every_cell_of_the_grid_is_found_by_its_count(paper: Paper) -> None:
    grid = published.grid(paper)
    assert len(grid) == 21
    for row in rows(f"dynamic_{paper}_grid.csv"):
        figure = grid[int(row["alpha"]), float(row["beta"])]
        assert figure.accuracy_percent == float(row["accuracy_percent"])
        assert figure.seconds == float(row["seconds_gtx1070"])


def test_the_grid_is_of_the_known_sizes() -> None:
    assert {alpha for paper in PAPERS for alpha, _ in published.grid(paper)} == set(published.ALPHAS)


def test_rows_of_the_comparison() -> None:
    assert published.full("a") == Figure(85.17, 3025.0, 200, "table 4")
    assert published.full("b") == Figure(86.47, 3074.0, 200, "table 4")
    assert published.comparison("a", 0.5) == [Figure(81.17, 1660.0, 200, "table 4")]
    assert published.comparison("a", 0.5, "base") == [Figure(84.55, 1994.0, 200, "table 4")]
    assert published.comparison("b", 0.5, "base") == []
    assert published.comparison("b", 0.5, "best-set") == [Figure(83.99, 1861.0, 200, "table 4")]
    assert published.comparison("a", 0.5, "best-set") == [
        Figure(84.85, None, 80, "figure 11"),
        Figure(85.2, None, 80, "figure 12 (mean of 20 maxima)"),
    ]
    assert published.comparison("b", 0.5, augmentation=True, dynamic=True) == [Figure(90.13, 854.0, None, "table 5")]


def test_every_row_of_the_comparison_can_be_reached() -> None:
    reached = [
        figure.accuracy_percent
        for paper in PAPERS
        for share in (0.5, 1.0)
        for augmentation in (False, True)
        for variant in (None, "base", "best-set")
        for dynamic in (False, True)
        for figure in published.comparison(paper, share, variant, augmentation, dynamic)  # type: ignore[arg-type]
    ]
    assert sorted(reached) == sorted(float(row["accuracy_percent"]) for row in rows("dynamic_comparison.csv"))


def test_the_published_data_set_is_known_by_its_classes() -> None:
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert published.is_dataset(classes)
    assert published.is_dataset([name.title() for name in reversed(classes)])
    assert not published.is_dataset(classes[:9])


@pytest.mark.parametrize(("dataset", "n", "learnt"), [("1.3", 57, 19), ("2.1", 69, 8)])
def test_the_theses_counts_are_read_whole(dataset: str, n: int, learnt: int) -> None:
    names = ("filters1", "filters2", "epochs")
    told = {
        tuple(int(row[name]) for name in names) for row in rows("shapes_trainings.csv") if row["dataset"] == dataset
    }
    ends = [
        end_of(accuracy, 3)
        for first, second, epochs in told
        for accuracy in published.shapes_trainings(dataset, f"{first}-{second}", epochs)
    ]
    assert (len(ends), ends.count("learnt")) == (n, learnt)


def test_one_layer_has_one_published_training() -> None:
    assert published.shapes_trainings("1.2", "16", 70) == [0.3357]
    assert published.shapes_trainings("1.2", "3", 70) == []


@pytest.mark.parametrize(
    ("dataset", "filters", "steps", "left"),
    [  # as its tables leave them
        ("1.3", "2-4", 4, {"layer 1 F1", "layer 2 F1"}),
        ("1.3", "16-4", 18, {"layer 1 F11", "layer 2 F4"}),
        ("1.3", "2-16", 14, {"layer 1 F2", "layer 2 F4"}),
        ("2.1", "16-16", 25, {"layer 1 F13", "layer 2 F3"}),
        ("2.1", "8-4", 10, {"layer 1 F7", "layer 2 F2"}),
    ],
)
def test_the_theses_prunings_leave_one_filter_in_each_layer(
    dataset: str, filters: str, steps: int, left: set[str]
) -> None:
    told = published.shapes_pruning(dataset, filters)
    assert len(told) == steps
    names = [f"layer {n} F{f}" for n, size in enumerate(filters.split("-"), 1) for f in range(1, int(size) + 1)]
    gone = [name for step in told for name in step.removed]
    assert len(gone) == len(set(gone))
    assert set(names) - set(gone) == left
    assert published.shapes_pruning("1.2", filters) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"size": (0.1, 0.9)}, "1.2"),
        ({"size": (0.3, 0.9)}, "1.3"),
        ({"size": (0.7, 0.7), "rotate": True}, "2.1"),
        ({"size": (0.7, 0.7)}, None),
        ({"size": (0.3, 0.9), "noise": 0.1}, None),
        ({"size": (0.3, 0.9), "image_size": 32}, None),
        ({"size": (0.3, 0.9), "aspect": 0.5}, None),
    ],
)
def test_only_the_theses_own_declarations_have_published_figures(changes: dict[str, Any], name: str | None) -> None:
    assert published.shapes_set(ShapesDataset(source="shapes", **changes).model_dump()) == name
