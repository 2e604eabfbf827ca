"""Pages of a part of the study `frugal`, and results that are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pydyn.errors import RunError
from pydyn.features.store import ADAPTED
from pydyn.report.frugal.accuracy import accuracy_figure
from pydyn.report.frugal.read import balanced_accuracy, read_frugal
from pydyn.report.page import write_report
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.training.frugal_summary import write_frugal_summary
from tests.report.conftest import some_of, write_partial
from tests.report.frugal_pages import PROPOSED, TWO_DATA_SETS, chosen, report, synthesise, table


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    "changes",
    [
        {"frugal": {"fine_tuning": None}},
        {"frugal": {"search": None}},
        {"frugal": {"replicates": 1}},
        {"frugal": {"replicates": 2, "splits": ["image"], "backbones": [{"name": "vit_b_32", "weights": "none"}]}},
        {"datasets": {"other": {"source": "shapes"}}, "frugal": {"datasets": ["other", "breakhis"]}},
    ],
)
def test_any_part_of_the_study_makes_a_page(tmp_path: Path, changes: dict[str, Any]) -> None:
    page, written = report(tmp_path, changes)
    assert "Frugal features" in page
    assert len(table(tmp_path, "runs")) == len(written)


def test_results_of_something_else_are_refused(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path)
    run, summary = next(iter(written.items()))
    path = run.directory(tmp_path) / "summary.json"
    whole = path.read_text()
    for change, message in (
        ({"data": "0" * 64}, "was trained on other images"),
        ({"run": replace(run, seed=9)}, "holds another Run"),
    ):
        write_frugal_summary(path, replace(summary, **change))
        with pytest.raises(RunError, match=message):
            read_frugal(config, tmp_path)
    path.write_text(whole.replace('"accuracy"', '"acuracy"'))
    with pytest.raises(RunError, match="not a readable summary"):
        read_frugal(config, tmp_path)
    path.unlink()
    with pytest.raises(RunError, match=r"is not complete: .* has no summary\.json"):
        read_frugal(config, tmp_path)


def test_spoilt_files_are_named(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path)
    proposed = chosen(written, "declared", **PROPOSED)[0].run
    assert isinstance(proposed, HeadRun)
    predictions = proposed.directory(tmp_path) / "predictions.csv"
    whole = predictions.read_text()
    # The last is a line longer than Python's csv takes.
    for spoilt in ("", whole.replace("ellipse", "nothing", 1), whole.removesuffix("\n") + "0" * 200_000):
        predictions.write_text(spoilt)
        with pytest.raises(RunError, match=r"predictions\.csv: not readable as predictions"):
            write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
    predictions.write_text(whole[: whole.rindex("\n", 0, -1) + 1])  # whole lines
    with pytest.raises(RunError, match=r"predictions\.csv: contradicts summary\.json beside it"):
        write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
    predictions.write_text(whole)
    (proposed.features.directory(tmp_path) / ADAPTED).write_bytes(b"")
    with pytest.raises(RunError, match=r"adapted\.safetensors cannot be read"):
        write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)


def test_heads_on_damaged_statistics_are_no_part_of_a_partial_page(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results")
    proposed = chosen(written, "declared", **PROPOSED)[0].run
    assert isinstance(proposed, HeadRun)
    (proposed.features.directory(tmp_path / "results") / ADAPTED).write_bytes(b"")
    on_it = [run for run in written if isinstance(run, HeadRun) and run.adapted and run.features == proposed.features]
    assert f"{len(on_it)} of these cannot be read, such as" in write_partial(config, tmp_path / "results")


def test_a_run_with_damaged_predictions_is_no_part_of_a_partial_page(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results")
    damaged = chosen(written, "declared", **PROPOSED)[0].run
    (damaged.directory(tmp_path / "results") / "predictions.csv").write_text("")
    page = write_partial(config, tmp_path / "results")
    assert f"1 of these cannot be read, such as {damaged.id}" in page


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_missing_there_is_a_page(tmp_path: Path, seed: int) -> None:
    config, written = synthesise(tmp_path / "results", TWO_DATA_SETS)
    write_partial(config, tmp_path / "results", some_of(list(written), seed))


def test_the_parts_of_the_method_are_compared_where_all_is_there(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results")
    gone = next(run for run in written if isinstance(run, HeadRun) and run.adapted and run.purpose == "ablation")
    write_partial(config, tmp_path / "results", [gone])
    parts = pd.read_csv(tmp_path / "partial" / "tables" / f"frugal-parts-breakhis-resnet18-imagenet-{gone.splits}.csv")
    assert (gone.settings[0].kind, gone.weighted, gone.seed) == ("linear", False, 0)
    every = parts[parts["where"] == "over all settings of the rest"].set_index("part").pairs
    # Of seed 0 one of the four differences is missing, whichever the part.
    assert every.tolist() == [2, 2, 2]
    assert parts[parts["where"] == "the rest as proposed"].pairs.tolist() == [3, 3, 3]


def test_without_the_method_its_sections_say_so(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results")
    heads = [run for run in written if isinstance(run, HeadRun)]
    gone = [run for run in heads if run.adapted and run.weighted and run.settings[0].kind == "redesigned"]
    page = write_partial(config, tmp_path / "results", gone)
    assert "No Run is there of the proposed method and of fine-tuning on the same images" in page
    assert "No search is there." in page
    assert not (tmp_path / "partial" / "tables" / "frugal-changes.csv").exists()


def test_data_sets_without_runs_need_not_be_prepared(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results", TWO_DATA_SETS)
    (tmp_path / "results" / "data" / "brain-mri.h5").unlink()
    page = write_partial(config, tmp_path / "results", [run for run in written if run.dataset == "brain-mri"])
    assert "Images of brain-mri" not in page


def test_names_stand_beside_their_rows_where_the_kinds_of_splits_differ(tmp_path: Path) -> None:
    config, written = synthesise(tmp_path / "results")
    gone = [run for run in written if run.splits == "declared" and isinstance(run, FineTuningRun)]
    write_partial(config, tmp_path / "results", gone)
    places = read_frugal(config, tmp_path / "results", set(gone)).places()
    figure = accuracy_figure(places, "breakhis", "resnet18-imagenet")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert sorted(names) == sorted({row.name for rows in places.values() for row in rows})
    for axis, rows in zip(figure.axes, places.values(), strict=True):
        means = {row.name: np.mean(list(row.by_seed(balanced_accuracy).values())) for row in rows}
        drawn = {names[round(bar[0].get_ydata()[0])]: bar[0].get_xdata()[0] for bar in axis.containers}
        assert drawn == pytest.approx(means)
