"""The pictures of the study frugal: of the test images, by predictions that are those of the summary; legible."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from pydyn.errors import RunError
from pydyn.report.frugal import pictures as drawings
from pydyn.report.frugal.read import read_frugal
from pydyn.report.page import write_report
from pydyn.studies.frugal_runs import FrugalRun
from pydyn.training.frugal_summary import FrugalSummary
from tests.report.conftest import CLASSES
from tests.report.frugal_pages import report, synthesise
from tests.report.pages import cells


def test_pictures_are_of_the_test_images(tmp_path: Path, pictures: dict[str, Figure]) -> None:
    def other(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        return replace(summary, test=replace(summary.test, confusion=[[14, 6, 0], [1, 18, 1], [0, 0, 20]]))

    config, written = synthesise(tmp_path, {"frugal": {"splits": ["declared"], "search": None}}, other=other)
    for run in written:  # whose labels and predictions are those of the matrix
        path = run.directory(tmp_path) / "predictions.csv"
        header, *_ = path.read_text().splitlines()
        rows = [
            f"{row},,{CLASSES[true]},{CLASSES[taken]},{','.join('0.8' if label == taken else '0.1' for label in range(3))}"
            for row, (true, taken) in enumerate(
                [(0, 0)] * 14 + [(0, 1)] * 6 + [(1, 0)] + [(1, 1)] * 18 + [(1, 2)] + [(2, 2)] * 20
            )
        ]
        path.write_text("\n".join([header, *rows]) + "\n")
    write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
    place = "breakhis-resnet18-imagenet-declared"
    for axis in pictures[f"frugal-confusion-{place}"].axes:  # three replicates together
        shown = cells(axis)
        assert shown["ellipse", "rectangle"] == "30 %\n18"
        assert shown["rectangle", "ellipse"] == "5 %\n3"
        assert shown["triangle", "triangle"] == "100 %\n60"
        shares = axis.collections[0].get_array().reshape(3, 3)
        assert shares.tolist() == pytest.approx(np.array([[0.7, 0.3, 0], [0.05, 0.9, 0.05], [0, 0, 1]]))
    for axis in pictures[f"frugal-reliability-{place}"].axes:
        assert axis.collections[0].get_offsets().tolist() == [[pytest.approx(0.8), pytest.approx(52 / 60)]]


@pytest.mark.parametrize("damage", ["cut", "other predictions"])
def test_predictions_that_are_not_of_the_summary_are_refused(tmp_path: Path, damage: str) -> None:
    config, written = synthesise(tmp_path, {"frugal": {"splits": ["declared"], "search": None}})
    path = next(run for run in written if run.setting.endswith("adapted-redesigned-weighted")).directory(tmp_path)
    *rows, last = (path / "predictions.csv").read_text().splitlines()
    first, second, true, predicted, chances = last.split(",", 4)
    changed = [] if damage == "cut" else [",".join([first, second, predicted, true, chances])]
    (path / "predictions.csv").write_text("\n".join([*rows, *changed]) + "\n")
    with pytest.raises(RunError, match=r"predictions\.csv: contradicts summary\.json beside it; remove their folder"):
        write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)


@pytest.mark.usefixtures("drawn")
def test_a_class_is_drawn_by_its_name_whatever_that_is(tmp_path: Path) -> None:
    config, _ = synthesise(tmp_path)
    places = read_frugal(config, tmp_path).places()
    rows = places["breakhis", "resnet18-imagenet", "declared"]
    ours = next(row for row in rows if row.is_proposed)
    for names in (("$a_{", "$b_{ c$", "Ödem / é"), ("a, b", "_c", "d\\")):
        drawing = drawings.confusion_drawing(("breakhis", "resnet18-imagenet", "declared"), ours, None, names)
        assert drawing.svg.startswith("<svg")


@pytest.mark.parametrize(("n_classes", "has_rival"), [(3, True), (10, True), (20, False), (30, True), (200, False)])
def test_of_any_number_of_classes_nothing_is_written_over_another(
    monkeypatch: pytest.MonkeyPatch, n_classes: int, has_rival: bool
) -> None:
    monkeypatch.setattr(drawings, "finish", lambda name, caption, figure: (caption, figure))
    confusion = (np.ones((n_classes, n_classes), dtype=int) + 12 * np.eye(n_classes, dtype=int)).tolist()
    row = SimpleNamespace(results=[SimpleNamespace(test=SimpleNamespace(confusion=confusion))], is_fine_tuning=False)
    names = tuple(f"class {number}" for number in range(n_classes))
    caption, figure = drawings.confusion_drawing(("birds", "lite0", "declared"), row, row if has_rival else None, names)  # type: ignore[arg-type]
    figure.draw_without_rendering()
    for axis in figure.axes:
        for texts in (axis.texts, axis.get_yticklabels(), axis.get_xticklabels()):
            # A label that is slanted runs under the next one's box, not under its letters.
            upright = [text.get_window_extent() for text in texts if text.get_rotation() in (0, 90)]
            assert not any(one.shrunk(0.8, 0.8).overlaps(other) for one, other in pairwise(upright))
        if axis.texts:
            last_row = [text.get_window_extent() for text in axis.texts[::n_classes]]
            assert not any(one.shrunk(0.8, 0.8).overlaps(other) for one, other in pairwise(last_row))
    assert bool(figure.axes[0].texts) == ("no room for figures" not in caption)


def test_nothing_lies_beyond_the_edge_of_a_picture(tmp_path: Path, cut_off: list[bool]) -> None:
    report(tmp_path)
    assert cut_off and not any(cut_off)
