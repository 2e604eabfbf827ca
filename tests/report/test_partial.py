"""Reports of studies that are not complete: of what is there, and never without saying so."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from pydyn.cli import cli
from pydyn.config.main import overlay, parse
from pydyn.errors import ConfigError, RunError
from pydyn.report.page import write_report
from pydyn.report.results import read_facts
from pydyn.studies.registry import experiments, runs
from pydyn.studies.run import Run
from pydyn.training.summary import write_summary
from tests.report.conftest import BASE, PARTS, some_of, write_partial, write_run, write_store
from tests.report.test_architectures import BASE as ARCHITECTURES

Synthesise = Callable[..., Any]
ALL = ("grid", "comparison", "robustness", "augmentation", "both protocols")


def table(results: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(results.parent / "partial" / "tables" / f"{name}.csv")


def warnings(page: str) -> list[str]:
    return re.findall('<p class="warning">(Partial report.*?)</p>', page)


def test_rows_hold_the_runs_that_are_there(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison", "robustness")
    full, fixed, base, best_set = dict.fromkeys(run.strategy for run in experiments(config, "dynamic")["comparison"])
    absent = [run for run in written if run.strategy == fixed or (run.strategy, run.seed) in ((base, 0), (base, 2))]
    page = write_partial(config, results, absent)
    found = table(results, "dynamic-comparison-accuracy-paper")
    assert dict(zip(found.setting.str.split("/").str[-1].str.split("-e").str[0], found.n, strict=True)) == {
        full.label: 3,
        base.label: 1,
        best_set.label: 3,
    }
    mean = 100 * next(s.accuracy.best_validation for run, s in written.items() if (run.strategy, run.seed) == (base, 1))
    assert found[found.n == 1].accuracy_percent_mean.item() == pytest.approx(mean)
    differences = table(results, "dynamic-comparison-differences-paper")
    assert differences[differences.strategy.str.startswith("dynamic half (base")].pairs.tolist() == [1]
    assert len(table(results, "runs")) == len(written) - len(absent)
    (warning,) = warnings(page)
    assert warning.startswith(f"Partial report: of the study dynamic {len(absent)} of {len(written)} Runs are missing")
    assert absent[0].id in warning
    assert page.index("Partial report") < page.index("<main>")


def test_whole_experiments_may_be_missing(synthesise: Synthesise) -> None:
    config, results, _ = synthesise(*ALL)
    listed = experiments(config, "dynamic")
    gone = {*listed["grid"], *(run for run in listed["augmentation"] if run.protocol == "paper")}
    page = write_partial(config, results, gone - {*listed["comparison"], *listed["robustness"]})
    assert "Tables 2 and 3 of the papers" in page
    assert not (results.parent / "partial" / "tables" / "dynamic-augmentation-paper.csv").exists()
    assert len(table(results, "dynamic-augmentation-holdout")) == 3


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_missing_there_is_a_page(synthesise: Synthesise, seed: int) -> None:
    config, results, written = synthesise(*ALL)
    absent = some_of(list(written), seed)
    (warning,) = warnings(write_partial(config, results, absent))
    assert f"{len(absent)} of {len(written)} Runs" in warning


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("experiment", ["grid", "comparison", "robustness", "augmentation"])
def test_one_run_is_enough(synthesise: Synthesise, experiment: str) -> None:
    config, results, written = synthesise(experiment)
    page = write_partial(config, results, list(written)[1:])
    assert ("one Run, no spread" in page) == (experiment == "robustness")


def test_without_the_wish_a_missing_run_is_an_error_that_names_it(synthesise: Synthesise) -> None:
    config, results, written = synthesise("single comparison")
    write_partial(config, results, [next(iter(written))])
    with pytest.raises(RunError, match=r"is not complete: .*run the workflow again, or .*pydyn report --partial"):
        write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    assert not (results / "report").exists()


def test_where_nothing_is_missing_the_page_is_the_whole_one(synthesise: Synthesise) -> None:
    config, results, _ = synthesise("single comparison")
    partial = write_partial(config, results)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    written = r"Page written</dt><dd>.*?</dd>"
    assert re.sub(written, "", partial) == re.sub(written, "", (results / "report" / "index.html").read_text())


def test_of_nothing_there_is_no_page(synthesise: Synthesise) -> None:
    config, results, written = synthesise("single comparison")
    with pytest.raises(RunError, match=rf"{results}: no Run of the studies dynamic is there.*run the workflow first"):
        write_partial(config, results, written)
    assert not (results.parent / "partial").exists()


def test_runs_of_other_data_or_another_configuration_are_left_out_too(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison")
    (one, of_one), (other, of_other), *_ = written.items()
    write_summary(one.directory(results) / "summary.json", replace(of_one, data="0" * 64))
    values = json.loads((other.directory(results) / "summary.json").read_text())
    values["run"]["learning_rate"] = 0.5
    (other.directory(results) / "summary.json").write_text(json.dumps(values))
    (warning,) = warnings(write_partial(config, results))
    assert f"2 of {len(written)} Runs are missing" in warning
    assert "2 of these came from another configuration or other data" in warning
    assert of_other.run == other


@pytest.mark.parametrize("name", Run.complete)
def test_a_run_that_lost_a_file_is_left_out(synthesise: Synthesise, name: str) -> None:
    config, results, written = synthesise("comparison")
    lost = next(iter(written))
    (lost.directory(results) / name).unlink()
    (warning,) = warnings(write_partial(config, results))
    assert f"1 of {len(written)} Runs are missing ({lost.id})" in warning
    assert len(table(results, "runs")) == len(written) - 1


def test_runs_whose_summaries_cannot_be_read_are_left_out_and_named(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison")
    cut_off, other, without_data, without_seconds, *_ = written
    summary = (cut_off.directory(results) / "summary.json").read_text()
    (cut_off.directory(results) / "summary.json").write_text(summary[:-20])
    (other.directory(results) / "summary.json").write_text("[]")
    for run, key in ((without_data, "data"), (without_seconds, "seconds")):
        path = run.directory(results) / "summary.json"
        values = json.loads(path.read_text())
        del values[key]
        path.write_text(json.dumps(values))
    (warning,) = warnings(write_partial(config, results))
    assert f"4 of {len(written)} Runs are missing" in warning
    assert (
        f"4 of these cannot be read, such as {cut_off.id} (damaged, or of another version of pydyn): remove their folders and "
        "run the workflow again" in warning
    )
    assert "came from" not in warning


@pytest.mark.parametrize("name", ["history.csv", "times_trained.npy"])
def test_a_run_with_a_damaged_file_is_left_out_and_named(synthesise: Synthesise, name: str) -> None:
    config, results, written = synthesise("comparison")
    damaged = next(iter(written))
    path = damaged.directory(results) / name
    path.write_bytes(path.read_bytes()[:-30])
    (warning,) = warnings(write_partial(config, results))
    assert f"1 of {len(written)} Runs are missing ({damaged.id})" in warning
    assert f"1 of these cannot be read, such as {damaged.id}" in warning
    assert len(table(results, "runs")) == len(written) - 1


def test_runs_of_an_earlier_version_are_not_said_to_be_absent(synthesise: Synthesise) -> None:
    config, results, written = synthesise("single comparison")
    for run in written:
        path = run.directory(results) / "history.csv"
        rows = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{row}\n" for row in rows))  # with a column less
    with pytest.raises(RunError, match="no Run of the studies dynamic is there that this version of pydyn can read"):
        write_partial(config, results)


def test_a_study_of_which_nothing_is_there_has_no_part_of_the_page(tmp_path: Path) -> None:
    results = tmp_path / "results"
    raw = overlay(overlay(BASE, PARTS["single comparison"]), {**ARCHITECTURES, "studies": ["dynamic", "architectures"]})
    raw["datasets"] = {**raw["datasets"], "others": raw["datasets"]["figures"]}
    raw["architectures"] = {**raw["architectures"], "dataset": "others"}
    config = parse(raw)
    write_store(results)
    digest = read_facts("figures", results).digest
    for run in runs(config, "dynamic"):
        write_run(results, run, digest)  # type: ignore[arg-type]
    page = write_partial(config, results)
    (warning,) = warnings(page)
    n_runs = len(runs(config, "architectures"))
    assert warning.startswith(f"Partial report: of the study architectures {n_runs} of {n_runs} Runs are missing")
    assert "nothing of it is on this page" in warning
    assert "architectures-networks" not in page


def test_on_the_command_line(synthesise: Synthesise) -> None:
    config, results, written = synthesise("single comparison")
    gone = next(iter(written))
    page = write_partial(config, results, [gone])
    (results / "config.json").write_text(json.dumps({**config.model_dump(mode="json"), "results": str(results)}))
    arguments = ["report", "--config", str(results / "config.json"), "--output", str(results / "now" / "index.html")]
    done = CliRunner().invoke(cli, [*arguments, "--partial"])
    assert done.exit_code == 0, done.output
    (warning,) = warnings(page)
    assert warning in done.output
    assert warnings((results / "now" / "index.html").read_text()) == [warning]
    assert isinstance(CliRunner().invoke(cli, arguments).exception, RunError)
    own = CliRunner().invoke(cli, [*arguments[:-1], str(results / "report" / "index.html"), "--partial"])
    assert isinstance(own.exception, ConfigError) and "workflow's own page" in str(own.exception)
    assert not (results / "report").exists()
    folder = CliRunner().invoke(cli, [*arguments[:-1], str(results), "--partial"])
    assert isinstance(folder.exception, ConfigError) and "is a folder; name a file in it" in str(folder.exception)
