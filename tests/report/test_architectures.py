"""The study `architectures` on the page."""

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pydyn.config.main import Config, overlay, parse
from pydyn.report.architectures import study
from pydyn.report.architectures.rows import collapsed, losses
from pydyn.report.page import write_report
from pydyn.report.results import Replicates, read_facts, read_study
from pydyn.report.statistics import Estimate
from pydyn.studies.registry import runs
from pydyn.training.history import Epoch, read_history
from pydyn.training.summary import DeadUnits, Summary, write_summary
from tests.report.conftest import some_of, write_partial, write_run, write_store
from tests.report.pages import cells, lines

T_975 = {3: 4.302652729911275}
BASE: dict[str, Any] = {
    "studies": ["architectures"],
    "datasets": {"figures": {"source": "shapes", "train": 120, "test": 60}},
    "architectures": {"dataset": "figures", "epochs": 4, "replicates": 3},
}


def synthesise(results: Path, change: dict[str, Any]) -> tuple[Config, dict[Any, Summary]]:
    config = parse(overlay(BASE, {"architectures": change}))
    write_store(results)
    digest = read_facts("figures", results).digest
    return config, {run: write_run(results, run, digest) for run in runs(config, "architectures")}


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., tuple[str, dict[Any, Summary]]]:
    def make(change: dict[str, Any] | None = None) -> tuple[str, dict[Any, Summary]]:
        config, written = synthesise(tmp_path, change or {})
        write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
        return (tmp_path / "report" / "index.html").read_text(), written

    return make


def table(tmp_path: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(tmp_path / "report" / "tables" / f"{name}.csv")


def last(written: dict[Any, Summary], model: str, strategy: str) -> dict[int, float]:
    return {
        run.seed: 100 * summary.accuracy.last_validation
        for run, summary in written.items()
        if run.model == model and run.strategy.name == strategy
    }


def interval(sample: list[float]) -> tuple[float, float]:
    return float(np.mean(sample)), T_975[len(sample)] * float(np.std(sample, ddof=1)) / len(sample) ** 0.5


def test_the_last_epoch_stands_beside_the_published(report: Any, tmp_path: Path) -> None:
    page, written = report()
    found = table(tmp_path, "architectures-networks")
    models = ["base", "deeper", "normalised"]
    assert found.published_accuracy_percent.tolist()[:3] == [63.82, 69.81, 70.26]
    assert found.published_loss.tolist()[:3] == [1.13, 0.87, 0.86]
    assert found.published_accuracy_percent[3:].isna().all()
    for position, (strategy, model) in enumerate([(s, m) for s in ("full", "dynamic") for m in models]):
        mean, half_width = interval(list(last(written, model, strategy).values()))
        row = found.iloc[position]
        assert (row.accuracy_percent_mean, row.accuracy_percent_half_width_95) == pytest.approx((mean, half_width))
        assert row.dead_percent == pytest.approx(100 * np.mean([0, 1, 2]) / 32)
    assert "published 63.82 %" in page


def test_what_survives_repeats(report: Any, tmp_path: Path) -> None:
    page, written = report()
    found = table(tmp_path, "architectures-differences")
    assert len(found) == 3 + 3
    base, deeper = last(written, "base", "full"), last(written, "deeper", "full")
    mean, half_width = interval([deeper[seed] - base[seed] for seed in range(3)])
    row = found.iloc[0]
    assert (row.difference_points, row.interval_high - mean) == pytest.approx((mean, half_width))
    assert row.published_difference_points == pytest.approx(69.81 - 63.82)
    claim = next(line for line in re.findall("<li>(.*?)</li>", page) if "The deeper network beats the base" in line)
    expected = (
        "holds"
        if mean > half_width
        else "the opposite holds"
        if mean < -half_width
        else "is not shown by these repeats"
    )
    # On the source's own images alone a claim of the source survives or does not.
    assert f"says the source: {expected} on figures, which is not" in claim
    assert "survive" not in claim
    assert (
        "120 training images instead of 50,000; 60 test images instead of 10,000; 4 epochs instead of 10. Measured"
        in page
    )


@pytest.mark.parametrize(
    ("verdict", "mean", "elsewhere", "expected"),
    [
        ("holds", 1.0, "", "survives repeats"),
        ("holds", -1.0, "", "does not survive, the opposite holds"),
        ("not resolved", 1.0, "", "is not shown by these repeats"),
        ("holds", 1.0, " on x", "holds on x"),
        ("holds", -1.0, " on x", "the opposite holds on x"),
        ("n = 1, no interval", 1.0, " on x", "is not shown by these repeats on x"),
    ],
)
def test_what_is_said_of_a_claim(verdict: str, mean: float, elsewhere: str, expected: str) -> None:
    assert study._survives(verdict, mean, elsewhere) == expected


@pytest.mark.parametrize(
    ("against_base", "against_deeper", "verdict", "deciding"),
    [
        ((3.0, 1.0), (2.0, 1.0), "holds", "experiment 2: +2.00"),
        ((3.0, 9.0), (2.0, 1.0), "is not shown by these repeats", "experiment 1: +3.00"),
        ((-3.0, 1.0), (2.0, 1.0), "the opposite holds", "experiment 1: −3.00"),
        ((3.0, 1.0), (-2.0, 9.0), "is not shown by these repeats", "experiment 2: −2.00"),
    ],
)
def test_the_best_of_all_beats_each(
    report: Any,
    monkeypatch: pytest.MonkeyPatch,
    against_base: tuple[float, float],
    against_deeper: tuple[float, float],
    verdict: str,
    deciding: str,
) -> None:
    found = {"base": against_base, "deeper": against_deeper}

    def difference(ours: Any, theirs: Any) -> Estimate:
        mean, half_width = found[theirs.run.model] if ours.run.model == "normalised" else (0.0, 1.0)
        return Estimate(3, mean, 1.0, half_width)

    monkeypatch.setattr(study, "difference", difference)
    page, _ = report({"grid": None, "strategies": []})
    said = f"{verdict} on figures, which is not the source's data set. Against {deciding} points"
    assert f"“Experiment 4 is the best of all”, says the source: {said}" in html.unescape(page)


def test_the_whole_grid_stands_beside_the_published(report: Any, tmp_path: Path) -> None:
    page, written = report()
    found = table(tmp_path, "architectures-grid")
    assert len(found) == 27
    row = found[(found.learning_rate == 0.01) & (found.batch_size == 32) & (found.epochs == 15)].iloc[0]
    assert (row.published_accuracy_percent, row.published_loss) == (35.75, 1.82)
    assert "At a learning rate of 0.01, 0 of 9 trainings end at chance (published: 2 of 9)" in page
    cells = {run: summary for run, summary in written.items() if run.strategy.name == "fixed"}
    best = max(cells, key=lambda run: cells[run].accuracy.last_validation)
    named = f"rate {best.learning_rate:g}, batch {best.batch_size}, {best.epochs} epochs"
    assert f"({named};" in page
    assert "The grid trains on 80 % of the training images" in page
    assert f"Of experiment 3 the combination with the highest accuracy: {named}." in page


def test_published_figures_are_said_to_be_of_the_sources_images(report: Any) -> None:
    page, _ = report()
    assert "published 63.82 % on CIFAR-10." in page
    captions = [html.unescape(caption) for caption in re.findall("<figcaption>(.*?) <a", page) if "ublished" in caption]
    assert len(captions) == 4
    assert all("CIFAR-10" in caption for caption in captions)


def test_the_best_of_the_grid_claims_nothing(report: Any) -> None:
    page, _ = report()
    (said,) = re.findall(r"<li>“Architecture improves more than hyper-parameters”.*?</li>", html.unescape(page))
    assert "its best (n = 1) is picked by the test images, as is the best network (n = 3): nothing is claimed." in said


@pytest.mark.parametrize(("epochs", "published"), [(5, True), (3, False)])
def test_a_picture_without_published_figures_names_none(report: Any, epochs: int, published: bool) -> None:
    page, _ = report({"grid": {"epochs": [epochs], "batch_sizes": [32], "learning_rates": [1e-2, 1e-3]}})
    (caption,) = re.findall("<figcaption>(Experiment 3: accuracy in percent.*?) <a", page)
    assert ("published: on CIFAR-10" in caption) == published


@pytest.mark.parametrize("grid", [{}, None])
def test_the_best_of_the_grid_has_curves_too(report: Any, monkeypatch: pytest.MonkeyPatch, grid: Any) -> None:
    legends: list[list[str]] = []
    monkeypatch.setattr(
        "pydyn.report.architectures.pictures.legend_below",
        lambda figure, handles, labels, columns: legends.append(labels),
    )
    report({"grid": grid, "strategies": []})
    networks = ["1: base", "2: deeper, with dropout", "4: batch normalisation, augmentation"]
    assert legends == [[*networks, "3: base, best of the grid"] if grid is not None else networks]


def test_pictures_have_each_figure_in_its_place(report: Any, tmp_path: Path, pictures: dict[str, Figure]) -> None:
    _, written = report()
    base = [run for run in written if run.model == "base" and run.strategy.name == "full"]
    histories = [read_history(run.directory(tmp_path) / "history.csv", Epoch) for run in base]
    panels = {"train_accuracy": 100, "validation_accuracy": 100, "train_loss": 1, "validation_loss": 1}
    for axis, (value, scale) in zip(pictures["architectures-curves"].axes, panels.items(), strict=True):
        curves = np.array([[scale * getattr(epoch, value) for epoch in history] for history in histories])
        assert lines(axis)["1: base"] == pytest.approx(curves.mean(axis=0))
    confusion = cells(pictures["architectures-confusion"].axes[0])
    assert (confusion["rectangle", "ellipse"], confusion["ellipse", "rectangle"]) == ("10", "5")
    assert (confusion["triangle", "rectangle"], confusion["triangle", "ellipse"]) == ("15", "")
    grid = {axis.get_title("left"): cells(axis) for axis in pictures["architectures-grid"].axes}
    assert grid["15 epochs, published"]["32", "0.01"] == "35.8"
    places: dict[tuple[int, int, float], list[float]] = {}
    for run, summary in written.items():
        if run.strategy.name == "fixed":
            place = run.epochs, run.batch_size, run.learning_rate
            places.setdefault(place, []).append(100 * summary.accuracy.last_validation)
    assert len(places) == 27
    for (epochs, size, rate), found in places.items():
        assert grid[f"{epochs} epochs, measured"][f"{size}", f"{rate:g}"] == f"{np.mean(found):.1f}"


def test_the_grid_and_the_networks_are_set_against_the_base(report: Any) -> None:
    page, written = report()
    means: dict[Any, list[float]] = {}
    for run, summary in written.items():
        if run.strategy.name != "dynamic":
            means.setdefault((run.strategy.name, run.setting), []).append(100 * summary.accuracy.last_validation)
    best = {
        kind: max(np.mean(found) for (name, _), found in means.items() if name == kind) for kind in ("full", "fixed")
    }
    base = np.mean(list(last(written, "base", "full").values()))
    networks = [np.mean(list(last(written, model, "full").values())) - base for model in ("deeper", "normalised")]
    said = f"is {best['fixed'] - base:+.2f} points from experiment 1, the best network {max(networks):+.2f}."
    assert said.replace("-", "−") in page


def test_dead_units_are_of_the_last_layer_by_learning_rate(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path, {"strategies": []})
    for run, summary in written.items():
        dead = [DeadUnits(2, 32, 0), DeadUnits(5, 128, 64 if run.learning_rate == 0.01 else 32)]
        write_summary(run.directory(tmp_path) / "summary.json", replace(summary, dead_units=dead))
    write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "128 units, 50 % are dead there on average" in page
    assert "after the last epoch; at the smaller rates 25 %" in page


def test_the_loss_is_that_of_the_last_epoch(tmp_path: Path) -> None:
    config, _ = synthesise(tmp_path, {"grid": None, "strategies": []})
    result = read_study(config, "architectures", tmp_path).results[0]
    *rows, end = result.history
    result = replace(result, history=(*rows, replace(end, validation_loss=5.0)))
    assert losses(Replicates((result,))).mean == 5


@pytest.mark.parametrize(
    ("confusion", "accuracy", "expected"),
    [
        ([[0, 50], [0, 50]], 0.5, True),
        ([[50, 0], [48, 2]], 0.52, True),
        ([[80, 0], [20, 0]], 0.8, True),  # one class for every image, of which most are of it
        ([[75, 5], [10, 10]], 0.85, False),
    ],
)
def test_a_network_that_names_one_class_has_collapsed(
    tmp_path: Path, confusion: list[list[int]], accuracy: float, expected: bool
) -> None:
    config, _ = synthesise(tmp_path, {"grid": None, "strategies": []})
    result = read_study(config, "architectures", tmp_path).results[0]
    known = replace(result.summary.accuracy, last_validation=accuracy)
    result = replace(result, summary=replace(result.summary, confusion=confusion, accuracy=known))
    assert (collapsed(Replicates((result,))) == [result]) == expected


def test_without_grid_and_strategies(report: Any, tmp_path: Path) -> None:
    page, written = report({"grid": None, "strategies": [], "replicates": 1})
    assert "Experiment 3" not in re.sub("<p>.*?</p>", "", page)
    assert len(written) == 3
    assert "n = 1" in page


def test_strategies_of_one_kind_are_told_apart_and_each_stands_once(report: Any, tmp_path: Path) -> None:
    dynamic = {"name": "dynamic", "beta": 0.7}
    strategies = [{**dynamic, "alpha": 0.5}, {**dynamic, "alpha": 0.25}, {"name": "full"}]
    report({"grid": None, "strategies": strategies})
    found = table(tmp_path, "architectures-networks")
    assert len(found) == 3 * 3
    assert found.experiment.is_unique
    assert found.experiment[3] == "1: base, Dynamic Training [dynamic-base-a0.5-b0.7]"
    differences = table(tmp_path, "architectures-differences")
    assert len(differences) == 3 + 2 * 3
    assert not differences.duplicated(["experiment", "against"]).any()


@pytest.mark.parametrize("strategies", [[], [{"name": "dynamic", "alpha": 0.5, "beta": 0.7}]])
def test_what_the_test_images_choose_is_said(report: Any, strategies: list[dict[str, Any]]) -> None:
    page, _ = report({"grid": None, "strategies": strategies})
    assert ("Dynamic Training replaces images when the accuracy on the test images" in page) == bool(strategies)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_missing_there_is_a_page(tmp_path: Path, seed: int) -> None:
    config, written = synthesise(tmp_path, {})
    write_partial(config, tmp_path, some_of(list(written), seed))


def test_experiments_that_are_missing_are_named(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path, {})
    plain = [run for run in written if run.strategy.name == "full"]
    page = write_partial(config, tmp_path, [run for run in plain if run.model != "deeper"])
    assert "No Run is there of experiment 1: base; 4: batch normalisation, augmentation." in page
    page = write_partial(config, tmp_path, [run for run in written if run.strategy.name != "dynamic"])
    assert "No Run is there of the grid." in page
    assert len(pd.read_csv(tmp_path.parent / "partial" / "tables" / "architectures-networks.csv")) == 3


def test_nothing_lies_beyond_the_edge_of_a_picture(report: Any, cut_off: list[bool]) -> None:
    report()
    assert cut_off and not any(cut_off)
