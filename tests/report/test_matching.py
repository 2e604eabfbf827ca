"""Which published figure stands beside which measured row."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pydyn.report import published
from pydyn.report.dynamic.matching import counterparts
from pydyn.report.dynamic.names import row_names
from pydyn.report.dynamic.planes import find_planes
from pydyn.report.page import write_report
from pydyn.report.results import StudyResults, read_study
from pydyn.training.history import Epoch, History, read_history
from pydyn.training.summary import write_summary

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PAPER_SCALE: dict[str, Any] = {
    "sizes": (45_000, 5_000, 10_000),
    "classes": CIFAR,
    # Images of 32 x 32 would take 180 MB each time.
    "shape": (1, 1, 1),
    "declaration": {"source": "torchvision", "name": "CIFAR10"},
}

Synthesise = Callable[..., Any]


def dynamic(alpha: int | float = 0.5, scheme: str = "base", gamma: float = 0.97, **other: Any) -> dict[str, Any]:
    return {"name": "dynamic", "scheme": scheme, "alpha": alpha, "beta": 0.7, "gamma": gamma, **other}


def trials(*rows: dict[str, Any] | tuple[dict[str, Any], int], **study: Any) -> dict[str, Any]:
    listed = [{"strategy": row[0], "epochs": row[1]} if isinstance(row, tuple) else {"strategy": row} for row in rows]
    return {"dynamic": {"comparison": {"trials": listed}, **study}}


def read(synthesise: Synthesise, *parts: Any, **store: Any) -> StudyResults:
    config, results, _ = synthesise(*parts, **store)
    return read_study(config, "dynamic", results)


def beside(study: StudyResults, paper: Any, protocol: str = "paper") -> list[float | None]:
    found = counterparts(study, study.replicates("comparison", protocol), paper)
    return [match.figure.accuracy_percent if match else None for match in found]


def test_a_count_is_named_by_its_share_of_the_runs_own_pool(synthesise: Synthesise) -> None:
    fixed = [{"name": "fixed", "alpha": alpha} for alpha in (25_000, 22_500, 0.5)]
    study = read(synthesise, trials(*fixed, protocols=["paper", "holdout"]), **PAPER_SCALE)
    paper, holdout = (row_names(study.replicates("comparison", protocol)) for protocol in ("paper", "holdout"))
    assert paper == ["fixed half [fixed-a25000]", "fixed 45 %", "fixed half [fixed-a0.5]"]
    assert holdout == ["fixed 55.6 %", "fixed half [fixed-a22500]", "fixed half [fixed-a0.5]"]


def test_the_same_count_is_nearer_to_the_paper_than_the_same_share(synthesise: Synthesise) -> None:
    fixed = [{"name": "fixed", "alpha": alpha} for alpha in (25_000, 22_500, 0.5)]
    study = read(synthesise, trials(*fixed, protocols=["holdout"]), **PAPER_SCALE)
    assert beside(study, "a", "holdout") == [81.17, None, None]
    study = read(synthesise, trials(*fixed[1:], protocols=["holdout"]), **PAPER_SCALE)
    assert beside(study, "a", "holdout") == [81.17, 81.17]


def test_a_figure_stands_beside_the_row_of_its_epochs(synthesise: Synthesise) -> None:
    best_set = dynamic(scheme="best-set")
    study = read(synthesise, trials(dynamic(), best_set, (best_set, 80), (dynamic(), 80), epochs=200))
    assert beside(study, "a") == [84.55, None, 84.85, None]
    assert beside(study, "b") == [None, 83.99, None, None]


def test_without_its_epochs_a_figure_stands_beside_the_studys(synthesise: Synthesise) -> None:
    best_set = dynamic(scheme="best-set")
    study = read(synthesise, trials(best_set, (best_set, 3), epochs=4))
    assert beside(study, "a") == [84.85, None]
    assert beside(study, "b") == [83.99, None]


@pytest.mark.parametrize("other", [{"gamma": 1.0}, {"delta": 0.02}, {"trigger": "signed"}])
def test_of_several_rows_the_published_parameters_win(synthesise: Synthesise, other: dict[str, Any]) -> None:
    assert beside(read(synthesise, trials(dynamic(**other), dynamic())), "a") == [None, 84.55]
    study = read(synthesise, trials(dynamic(**other)))
    (match,) = counterparts(study, study.replicates("comparison", "paper"), "a")
    assert match is not None and match.figure.accuracy_percent == 84.55 and len(match.there) == 1


def test_another_beta_has_no_published_row(synthesise: Synthesise) -> None:
    assert beside(read(synthesise, trials({**dynamic(), "beta": 0.6})), "a") == [None]


def test_table_5_stands_beside_the_beta_of_the_others_and_the_nearest_row(synthesise: Synthesise) -> None:
    rows = [
        {"strategy": strategy}
        for strategy in (
            {"name": "full"},
            dynamic(),
            {**dynamic(), "beta": 0.1},
            {**dynamic(), "beta": 0.0},
            dynamic(trigger="signed"),
            dynamic(scheme="best-set"),
        )
    ]
    study = read(synthesise, {"dynamic": {"augmentation": {"trials": rows}}})
    augmented = study.replicates("augmentation", "paper")
    found = counterparts(study, augmented, "a", "table 5")
    assert [match and match.figure.accuracy_percent for match in found] == [90.65, 89.03, None, None, None, 89.03]
    short = {
        "dynamic": {"augmentation": {"trials": [{"strategy": dynamic(trigger="signed"), "epochs": 3}]}, "epochs": 5}
    }
    study = read(synthesise, short)
    (match,) = counterparts(study, study.replicates("augmentation", "paper"), "b", "table 5")
    assert match is not None and match.figure.accuracy_percent == 90.13 and match.there == ("absolute trigger",)


def page(synthesise: Synthesise, *parts: Any, **store: Any) -> tuple[str, Path]:
    config, results, _ = synthesise(*parts, **store)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    return (results / "report" / "index.html").read_text(), results / "report" / "tables"


def test_another_network_is_compared_with_its_own_paper(synthesise: Synthesise) -> None:
    rows = trials({"name": "full"}, dynamic(scheme="best-set"), model="cnn_b")
    text, tables = page(synthesise, rows)
    header = pd.read_csv(tables / "dynamic-comparison-accuracy-paper.csv").columns
    assert "published_b_accuracy_percent" in header and "published_a_accuracy_percent" not in header
    assert "compared with paper b only" in text and "the network cnn_b" in text


def test_batch_normalisation_has_no_published_counterpart(synthesise: Synthesise) -> None:
    grid = {"dynamic": {"grid": {"alpha": [0.5], "beta": [0.7], "gamma": [0.97]}, "batch_norm": True}}
    text, tables = page(synthesise, trials({"name": "full"}, dynamic()), grid)
    for name in ("dynamic-comparison-accuracy-paper", "dynamic-grid-accuracy-paper-gamma0.97"):
        columns = pd.read_csv(tables / f"{name}.csv").columns
        assert not any("published" in column and "percent" in column for column in columns)
    assert "no published figure is the counterpart" in text and "which the papers do not mention" in text


def grid(alphas: list[int | float], gammas: list[float], **study: Any) -> dict[str, Any]:
    return {"dynamic": {"grid": {"alpha": alphas, "beta": [0.3], "gamma": gammas}, **study}}


def test_alphas_of_one_rounded_share_are_rows_of_their_own(synthesise: Synthesise) -> None:
    study = read(synthesise, grid([10, 20, 25_000, 0.5], [0.97]), **PAPER_SCALE)
    (plane,) = find_planes(study)
    assert {alpha for alpha, _ in plane.cells} == {"10", "20", "25000", "0.5"}
    rows = [(row.alpha, row.size, row.part, row.published) for row in plane.rows]
    assert rows == [
        ("25000", "25,000 images (α = 25000)", "50 %", 25_000),
        ("0.5", "25,000 images (α = 0.5)", "50 %", 25_000),
        (None, "20,000 images", "40 %", 20_000),
        (None, "15,000 images", "30 %", 15_000),
        ("20", "20 images", "0.04 %", None),
        ("10", "10 images", "0.02 %", None),
    ]


def test_counts_and_shares_of_the_grid_under_holdout(synthesise: Synthesise) -> None:
    study = read(synthesise, grid([25_000, 0.5, 0.3], [0.97], protocols=["holdout"]), **PAPER_SCALE)
    (plane,) = find_planes(study)
    rows = [(row.alpha, row.size, row.part, row.published, row.basis) for row in plane.rows]
    assert rows == [
        ("25000", "25,000 images", "55.6 %", 25_000, "count"),
        ("0.5", "22,500 images", "50 %", None, None),
        (None, "20,000 images", "40 %", 20_000, None),
        ("0.3", "13,500 images", "30 %", 15_000, "share"),
    ]


def test_the_published_grid_stands_beside_its_own_gamma(synthesise: Synthesise) -> None:
    both = find_planes(read(synthesise, grid([0.5], [1.0, 0.97])))
    assert [(plane.gamma, list(plane.papers)) for plane in both] == [(1.0, []), (0.97, ["a"])]
    (alone,) = find_planes(read(synthesise, grid([0.5], [1.0])))
    assert list(alone.papers) == ["a"]


@pytest.mark.parametrize(
    ("model", "scheme", "beside", "not_run"),
    [
        ("cnn_a", "base", ["a"], ["b"]),
        ("cnn_a", "best-set", ["b"], ["a"]),
        ("cnn_b", "base", [], ["b"]),
        ("cnn_b", "best-set", ["b"], []),
    ],
)
def test_a_papers_grid_stands_beside_one_of_its_scheme(
    synthesise: Synthesise, model: str, scheme: str, beside: list[str], not_run: list[str]
) -> None:
    measured = {"alpha": [0.5], "beta": [0.3], "gamma": [0.97], "scheme": scheme}
    text, tables = page(synthesise, {"dynamic": {"grid": measured, "model": model}})
    header = pd.read_csv(tables / "dynamic-grid-accuracy-paper-gamma0.97.csv").columns
    assert [paper for paper in "ab" if f"published_{paper}_accuracy_percent" in header] == beside
    assert [paper for paper in "ab" if f"Not run: the grid of paper {paper}" in text] == not_run
    assert (tables / "dynamic-grid.csv").exists() == bool(not_run)


def test_the_published_scale_has_no_caveat_under_protocol_paper(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "IMAGE_SHAPE", PAPER_SCALE["shape"])
    strategies = ({"name": "full"}, (dynamic(25_000, scheme="best-set"), 80))
    scale = {"epochs": 200, "batch_size": 512}
    text, _ = page(synthesise, trials(*strategies, **scale), **PAPER_SCALE)
    assert "The setting differs" not in text
    assert "one set of 10,000 test images" in text
    text, _ = page(synthesise, trials(*strategies, protocols=["holdout"], **scale), **PAPER_SCALE)
    assert "The setting differs from the published one: under protocol holdout, a pool of 45,000 images" in text
    assert "matched by their count of images (out of a pool of 45,000 here, of 50,000 there)" in text


def test_every_difference_from_the_published_setting_is_listed(synthesise: Synthesise) -> None:
    store = {"classes": CIFAR, "declaration": {"source": "archive", "path": "folder/copies.tar"}, "shape": (32, 32, 3)}
    text, _ = page(synthesise, trials({"name": "full"}, batch_norm=True, model="cnn_b", learning_rate=0.01), **store)
    assert (
        "The setting differs from the published one: images from archive copies.tar, which may be lossy copies; "
        "120 training images instead of 50,000; 60 test images instead of 10,000; 8 epochs instead of 200; batches of 64 "
        "instead of 512; learning rate 0.01 instead of 0.001; the network cnn_b, a reading of a garbled table; batch "
        "normalisation, which the papers do not mention."
    ) in text


@pytest.mark.parametrize(
    "other", [{"precision": "bf16"}, {"threads": 7}, {"device": "another"}, {"earlier_places": ["another"]}]
)
def test_runs_of_several_machines_are_said_not_to_compare_in_time(
    synthesise: Synthesise, other: dict[str, Any]
) -> None:
    config, results, written = synthesise("comparison")
    for run, summary in list(written.items())[:2]:
        write_summary(run.directory(results) / "summary.json", replace(summary, **other))
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    text = (results / "report" / "index.html").read_text()
    assert "The Runs were not trained on one machine in one way (" in text and ": 2 Runs" in text
    moved = "earlier_places" in other
    assert ("Runs differ in their device, or within a kind in precision or threads" in text) == (not moved)
    assert ("2 of 12 Runs were moved" in text) == moved


@pytest.mark.parametrize(("part", "said"), [(0.04, False), (0.5, True), (float("nan"), False)])
def test_times_of_runs_that_waited_for_a_processor_are_said_to_be_disturbed(
    synthesise: Synthesise, part: float, said: bool
) -> None:
    config, results, written = synthesise("comparison")
    for run in list(written)[:2]:
        path = run.directory(results) / "history.csv"
        rows = [replace(row, seconds_waiting=part * row.seconds_train) for row in read_history(path, Epoch)]
        History(path, Epoch).restart(rows)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    text = (results / "report" / "index.html").read_text()
    told = "Other work had the processors for more than 5 % of the seconds of 2 of the 12 Runs"
    assert (told in text) == said
    waited = pd.read_csv(results / "report" / "tables" / "runs.csv").seconds_waiting
    assert waited.iloc[2:].eq(0).all() and (waited.iloc[:2].isna().all() or (waited.iloc[:2] > 0).all())
