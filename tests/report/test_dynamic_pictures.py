"""What the pictures of the study dynamic show, and what rows and lines are called."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from pydyn.report.dynamic.curves import cost_drawing, validation_accuracy
from pydyn.report.dynamic.names import row_names
from pydyn.report.figures import COLOURS, DASHES, line_style
from pydyn.report.results import read_study
from tests.report.pages import ReadTables, Synthesise, chosen, report


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
