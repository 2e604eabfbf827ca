"""What the pictures of the study frugal show: the test images, by predictions that are those of the summary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pydyn.errors import RunError
from pydyn.report.page import write_report
from pydyn.studies.frugal_runs import FrugalRun
from pydyn.training.frugal_summary import FrugalSummary
from tests.report.conftest import CLASSES
from tests.report.frugal_pages import synthesise
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
