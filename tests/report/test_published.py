import csv
from importlib import resources

import pytest

from pydyn.report import published
from pydyn.report.published import PAPERS, Figure, Paper

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
