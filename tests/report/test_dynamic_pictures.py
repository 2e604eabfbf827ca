"""What the pictures of the study dynamic show, and what rows and lines are called."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pydyn.report import published
from pydyn.report.dynamic.curves import cost_drawing, validation_accuracy
from pydyn.report.dynamic.names import row_names
from pydyn.report.figures import COLOURS, DASHES, Panel, heat_maps, line_style, style
from pydyn.report.page import write_report
from pydyn.report.results import read_study
from tests.report.pages import ReadTables, Synthesise, bands, cells, chosen, lines, report


def test_the_picture_of_costs_has_bands_and_says_which_accuracy_it_is(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands: list[Any] = []
    marks: list[tuple[float, ...]] = []
    fill, errorbar = Axes.fill_between, Axes.errorbar
    monkeypatch.setattr(Axes, "fill_between", lambda axis, *a, **k: bands.append(a) or fill(axis, *a, **k))
    monkeypatch.setattr(Axes, "errorbar", lambda axis, *a, **k: marks.append(a[:3]) or errorbar(axis, *a, **k))
    config, results, written = synthesise("comparison", "both protocols")
    study = read_study(config, "dynamic", results)
    for protocol, n_marks in (("paper", 0), ("holdout", 2 * 4)):
        rows = study.replicates("comparison", protocol)
        bands.clear()
        drawing = cost_drawing(study, rows, row_names(rows), protocol)
        assert (len(bands), len(marks)) == (2 * 4, n_marks)
        curves = np.maximum.accumulate(rows[0].curves(validation_accuracy), axis=1)
        assert np.mean([bands[0][1], bands[0][2]], axis=0) == pytest.approx(curves.mean(axis=0))
        assert bands[0][2] - bands[0][1] == pytest.approx(2 * curves.std(axis=0, ddof=1))
        assert "band: one standard deviation around it (n = 3)" in drawing.caption
        assert ("the validation images are the test images" in drawing.caption) == (protocol == "paper")
        assert ("test images are looked at once" in drawing.caption) == (protocol == "holdout")
    full = chosen(written, "holdout", name="full")
    tested = [100 * summary.accuracy.test_at_best for summary in full]
    assert marks[0] == pytest.approx((full[0].images_trained, np.mean(tested), np.std(tested, ddof=1)))
    assert marks[1][0] == pytest.approx(np.mean([summary.seconds.total for summary in full]))


def test_curves_are_those_of_the_histories(synthesise: Synthesise, pictures: dict[str, Figure]) -> None:
    config, results, _ = synthesise("comparison", "robustness")
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    study = read_study(config, "dynamic", results)
    rows = study.replicates("comparison", "paper")
    axes = pictures["dynamic-curves-paper"].axes
    assert [axis.get_title("left") for axis in axes[1::2]] == ["with elitism"] * len(rows)
    for row, plain, elitist in zip(rows, axes[::2], axes[1::2], strict=True):
        for place, value in enumerate(("train_accuracy", "validation_accuracy")):
            curves = 100 * np.array([[getattr(epoch, value) for epoch in result.history] for result in row.results])
            name = f"{value.partition('_')[0].replace('train', 'training')} images"
            for axis, shown in ((plain, curves), (elitist, np.maximum.accumulate(curves, axis=1))):
                assert lines(axis)[name] == pytest.approx(shown.mean(axis=0))
                low, high = bands(axis)[place]
                assert (low, high) == (pytest.approx(shown.min(axis=0)), pytest.approx(shown.max(axis=0)))
    (spread,) = pictures["dynamic-robustness-paper"].axes
    replicates = study.replicates("robustness", "paper")
    for name, row, (low, high) in zip(row_names(replicates), replicates, bands(spread), strict=True):
        curves = row.curves(validation_accuracy)
        assert lines(spread)[name] == pytest.approx(curves.mean(axis=0))
        assert high - low == pytest.approx(2 * curves.std(axis=0, ddof=1))


def test_times_trained_are_sorted_run_by_run(synthesise: Synthesise, pictures: dict[str, Figure]) -> None:
    config, results, written = synthesise("comparison")
    for run in written:
        if run.strategy.name == "fixed":  # a half each, of another seed others
            np.save(run.directory(results) / "times_trained.npy", np.roll(np.repeat([8, 0], 60), 20 * run.seed))
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    rows = read_study(config, "dynamic", results).replicates("comparison", "paper")
    (axis,) = pictures["dynamic-times-trained-paper"].axes
    for name, row in zip(row_names(rows), rows, strict=True):
        most_first = [sorted(result.times_trained, reverse=True) for result in row.results]
        assert lines(axis)[name] == pytest.approx(np.mean(most_first, axis=0))


def test_heat_maps_of_the_grid_have_each_cell_in_its_place(synthesise: Synthesise, pictures: dict[str, Figure]) -> None:
    _, written = report(synthesise, "grid", "comparison")
    measured, published_a = (cells(axis) for axis in pictures["dynamic-grid-accuracy"].axes)
    of_time, published_time = (cells(axis) for axis in pictures["dynamic-grid-time"].axes)
    full = np.mean([summary.seconds.total for summary in chosen(written, "paper", name="full")])
    for alpha, size in ((0.3, "36 images\n30 %"), (60, "60 images\n50 %")):
        for beta in (0.3, 0.7):
            summaries = [s for s in chosen(written, "paper", alpha=alpha, beta=beta) if s.run.seed < 2]
            accuracy = np.mean([100 * summary.reported_accuracy for summary in summaries])
            seconds = np.mean([summary.seconds.total for summary in summaries])
            assert measured[size, f"{beta:g}"] == f"{accuracy:.1f}"
            assert of_time[size, f"{beta:g}"] == f"{100 * seconds / full:.1f}"
            figure = published.grid("a")[{0.3: 15_000, 60: 25_000}[alpha], beta]
            row = {0.3: "15,000 images\n30 %", 60: "25,000 images\n50 %"}[alpha]
            assert published_a[row, f"{beta:g}"] == f"{figure.accuracy_percent:.1f}"
            assert published_time[row, f"{beta:g}"] == f"{100 * figure.seconds / 3025:.1f}"
    assert measured["36 images\n30 %", "0.5"] == "not run"


def test_a_heat_map_is_coloured_by_the_values_that_are_written() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])
    texts = [["1", "2", "3"], ["4", "not run", "6"]]
    with style():
        figure = heat_maps([Panel("panel", ["first", "second"], values, texts, "scale")], ["a", "b", "c"], ("", ""))
    (axis,) = figure.axes
    shown = np.ma.filled(axis.collections[0].get_array().reshape(2, 3), np.nan)
    assert np.array_equal(shown, values, equal_nan=True)
    expected = {
        (row, column): text
        for row, line in zip(["first", "second"], texts, strict=True)
        for column, text in zip("abc", line, strict=True)
    }
    assert cells(axis) == expected


def test_the_picture_of_costs_of_single_runs_has_no_band(synthesise: Synthesise) -> None:
    folder, _ = report(synthesise, "single comparison", "both protocols")
    text = (folder / "index.html").read_text()
    assert text.count("no band, as n = 1.") == 2
    assert "weights, mean." in text.replace("&#39;", "'")


def test_rows_that_differ_in_epochs_only_have_names_of_their_own(
    synthesise: Synthesise, read_tables: ReadTables
) -> None:
    trials = [{"strategy": {"name": "full"}}, {"strategy": {"name": "full"}, "epochs": 4}]
    folder, _ = report(synthesise, {"dynamic": {"comparison": {"trials": trials}}})
    rows = read_tables(folder / "index.html")["dynamic-comparison-cost-paper"][1:]
    assert [row[0] for row in rows] == ["full pool, 8 epochs | n = 1", "full pool, 4 epochs | n = 1"]
    # Times are shares of the longest typical training.
    assert [row[9] for row in rows] == ["100 %", "50 %"]


def test_epochs_are_told_where_they_are_not_those_of_most_rows(synthesise: Synthesise) -> None:
    trials = [
        {"strategy": {"name": "full"}},
        {"strategy": {"name": "fixed"}},
        {"strategy": {"name": "full"}, "epochs": 4},
    ]
    config, results, _ = synthesise({"dynamic": {"comparison": {"trials": trials}}})
    names = row_names(read_study(config, "dynamic", results).replicates("comparison", "paper"))
    assert names == ["full pool", "fixed half", "full pool, 4 epochs"]


def test_names_tell_all_that_two_rows_can_differ_in(synthesise: Synthesise) -> None:
    dynamic = {"name": "dynamic", "alpha": 0.5, "beta": 0.7}
    variants = [{}, {"gamma": 0.97}, {"delta": 0.02}, {"replacements": "hard"}, {"trigger": "signed"}]
    strategies = [{**dynamic, **variant} for variant in variants] + [
        {**dynamic, "delta": 0.02, "trigger": "signed"},
        {"name": "infobatch"},
        {"name": "infobatch", "anneal": 0.25},
    ]
    trials = [{"strategy": strategy} for strategy in strategies]
    config, results, _ = synthesise({"dynamic": {"comparison": {"trials": trials}}})
    names = row_names(read_study(config, "dynamic", results).replicates("comparison", "paper"))
    assert [name.replace("\u00a0", " ") for name in names] == [
        "dynamic half (base, β 0.7)",
        "dynamic half (base, β 0.7, γ 0.97)",
        "dynamic half (base, β 0.7, δ 0.02)",
        "dynamic half (base, β 0.7, unseen and hard first)",
        "dynamic half (base, β 0.7, signed trigger)",
        "dynamic half (base, β 0.7, δ 0.02, signed trigger)",
        "InfoBatch (r 0.5)",
        "InfoBatch (r 0.5, annealed 25 %)",
    ]


def test_no_two_of_many_lines_look_alike() -> None:
    looks = [line_style(position) for position in range(len(COLOURS) * len(DASHES))]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == len(looks)
