"""`pydyn status` of files that are not as a job left them; of whole workflows, tests/workflow/test_status.py tells."""

import fcntl
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pydyn.config.main import Config, parse
from pydyn.errors import PydynError
from pydyn.provenance import fine_tuning_digest, heads_digest, training_digest
from pydyn.report.results import read_facts
from pydyn.status import RunStatus, StudyStatus, describe, read_status
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.studies.registry import runs
from pydyn.studies.run import AnyRun
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.folder import fingerprint_of
from pydyn.training.summary import write_summary
from tests.report.conftest import configure, write_run, write_store

FRUGAL: dict[str, Any] = {
    "studies": ["frugal", "shapes"],
    "datasets": {"figures": {"source": "shapes"}},
    "frugal": {"datasets": ["figures"], "backbones": [{"name": "resnet18", "weights": "none"}]},
    "shapes": {"trainings": [{"dataset": "figures", "epochs": 2, "filters": ["2-2"]}], "causes": [], "analyses": []},
}


def write_plan(config: Config, results: Path) -> None:
    (results / "config.json").write_text(json.dumps({**config.model_dump(mode="json"), "results": str(results)}))
    plan = {study: {"all": [run.id for run in runs(config, study)]} for study in config.studies}
    (results / "plan.json").write_text(json.dumps(plan))


def describe_run(run: AnyRun, results: Path, fingerprint: str = "f" * 16) -> None:
    run.directory(results).mkdir(parents=True, exist_ok=True)
    content = {"fingerprint": fingerprint, "run": run.to_dict()}
    (run.directory(results) / "run.json").write_text(json.dumps(content))


@pytest.fixture
def complete(tmp_path: Path) -> tuple[Path, list[Any]]:
    """Results of a study that is complete, and its Runs."""
    config, results = configure("single comparison"), tmp_path / "results"
    write_store(results)
    digest = read_facts("figures", results).digest
    for run in runs(config, "dynamic"):
        summary = write_run(results, run, digest)  # type: ignore[arg-type]
        code = training_digest(type(run.strategy))  # type: ignore[attr-defined]
        fingerprint = fingerprint_of(run, digest, code)
        write_summary(run.directory(results) / "summary.json", replace(summary, code=code, fingerprint=fingerprint))
        describe_run(run, results, fingerprint)
    write_plan(config, results)
    return results, runs(config, "dynamic")


def status_of(results: Path) -> tuple[StudyStatus, dict[str, RunStatus]]:
    (status,), problems = read_status(results)
    assert not problems
    return status, {each.run.id: each for each in status.runs}


def change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in {**found, **values}.items() if value is not None}))


def test_what_is_complete_has_nothing_to_go(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    status, _ = status_of(results)
    assert status.count("complete") == len(listed)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_text(path.read_text()[:-20]), r"Expecting|Unterminated"),
        (lambda path: path.write_text("[]"), "it has no 'run'"),
        (lambda path: change(path, data=None), "it has no 'data'"),
        (lambda path: change(path, seconds="long"), "seconds: 'long' is no number"),
        (lambda path: change(path, seconds={"train": float("nan")}), "seconds: nan is no number"),
        (lambda path: change(path, seconds={"train": {"hours": 1}}), "seconds: None is no number"),
    ],
)
def test_a_run_whose_summary_cannot_be_read_has_failed_and_the_rest_is_told(
    complete: tuple[Path, list[Any]], damage: Any, problem: str
) -> None:
    results, listed = complete
    path = listed[1].directory(results) / "summary.json"
    damage(path)
    status, found = status_of(results)
    assert status.count("complete") == len(listed) - 1
    assert found[listed[1].id].state == "failed"
    assert re.search(problem, found[listed[1].id].problem)
    assert f"failed: {listed[1].id}: {path}: not a readable summary" in describe([status], [])


def test_a_run_whose_description_cannot_be_read_has_failed(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    directory = listed[1].directory(results)
    (directory / "summary.json").unlink()
    (directory / "run.json").write_text('{"finger')
    _, found = status_of(results)
    assert found[listed[1].id].state == "failed"
    assert "run.json: not a readable Run's description" in found[listed[1].id].problem


def test_a_job_that_ended_with_an_error_did_at_the_run_that_cannot_be_read(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    (listed[1].directory(results) / "summary.json").write_text("")
    (listed[0].directory(results) / "weights.safetensors").unlink()
    log = results / "logs" / "dynamic" / "all.log"
    log.parent.mkdir(parents=True)
    log.write_text("pydyn: error: summary.json: not a readable summary (empty); remove its folder and run again\n")
    _, found = status_of(results)
    assert [run_id for run_id, each in found.items() if each.state == "failed"] == [listed[1].id]


def test_a_run_that_lost_a_file_is_made_again_from_the_start(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    (listed[1].directory(results) / "weights.safetensors").unlink()
    status, found = status_of(results)
    assert (found[listed[1].id].state, found[listed[1].id].epochs) == ("left", 0)
    assert status.seconds_left and status.seconds_left > 0


def test_only_what_a_checkpoint_holds_is_begun(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    directory = listed[1].directory(results)
    (directory / "summary.json").unlink()
    history = (directory / "history.csv").read_text().splitlines(keepends=True)
    (directory / "history.csv").write_text("".join(history[:3]))
    _, found = status_of(results)
    assert (found[listed[1].id].state, found[listed[1].id].epochs) == ("left", 0)
    (directory / "checkpoint.pt").touch()
    _, found = status_of(results)
    assert (found[listed[1].id].state, found[listed[1].id].epochs) == ("begun", 2)
    (directory / "checkpoint.pt").unlink()
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, found = status_of(results)
    assert (found[listed[1].id].state, found[listed[1].id].epochs) == ("in work", 2)


def test_a_history_that_is_no_text_ends_nothing(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    directory = listed[1].directory(results)
    (directory / "summary.json").unlink()
    (directory / "checkpoint.pt").touch()
    (directory / "history.csv").write_bytes(b"epoch\n\xff\xfe\n")
    _, found = status_of(results)
    assert (found[listed[1].id].state, found[listed[1].id].epochs) == ("begun", 1)


def test_a_damaged_summary_beside_lost_files_ends_the_job_too(complete: tuple[Path, list[Any]]) -> None:
    results, listed = complete
    directory = listed[1].directory(results)
    (directory / "weights.safetensors").unlink()
    (directory / "summary.json").write_text("")
    _, found = status_of(results)
    assert found[listed[1].id].state == "failed"
    assert "summary.json: not a readable summary" in found[listed[1].id].problem


def test_a_history_tells_epochs_only_of_runs_that_write_it_while_they_train(tmp_path: Path) -> None:
    config = parse(FRUGAL)
    write_plan(config, tmp_path)
    listed = [*runs(config, "frugal"), *runs(config, "shapes")]
    begun = [next(run for run in listed if isinstance(run, kind)) for kind in (HeadRun, FineTuningRun, PopulationRun)]
    for run in begun:
        describe_run(run, tmp_path)
        (run.directory(tmp_path) / "history.csv").write_text("epoch\n" + "1\n" * 3)
        if not isinstance(run, HeadRun):
            (run.directory(tmp_path) / "checkpoint.pt").touch()
    statuses, _ = read_status(tmp_path)
    found = {each.run.id: (each.state, each.epochs) for status in statuses for each in status.runs}
    assert [found[run.id] for run in begun] == [("left", 0), ("begun", 3), ("begun", 0)]


def test_what_was_done_once_counts_once(tmp_path: Path) -> None:
    config = parse({**FRUGAL, "studies": ["frugal"]})
    write_plan(config, tmp_path)
    listed = runs(config, "frugal")
    tuned, *others = [run for run in listed if isinstance(run, FineTuningRun)]
    heads = [run for run in listed if isinstance(run, HeadRun) and run.adapted and run.seed == 0]
    assert len(heads) == 4
    for run in (tuned, *heads):
        costs = {"training": 10, "search": 30} if run is tuned else {"adaptation": 8, "extraction": 40, "training": 1}
        code = fine_tuning_digest() if run is tuned else heads_digest()
        summary = {"run": run.to_dict(), "fingerprint": "f" * 16, "code": code, "data": "d"}
        describe_run(run, tmp_path)
        for name in run.complete:
            (run.directory(tmp_path) / name).write_text("")
        summary["costs"] = {stage: {"seconds": seconds} for stage, seconds in costs.items()}
        (run.directory(tmp_path) / "summary.json").write_text(json.dumps(summary))
    (status,), _ = read_status(tmp_path)
    assert status.count("complete") == 5
    # The search, then features once and four heads.
    assert status.seconds_spent == pytest.approx(30 + 48 + 4)
    left = [run for run in listed if isinstance(run, HeadRun) and run not in heads]
    assert status.seconds_left == pytest.approx(30 * len(others) + (48 / 4 + 1) * len(left))


@pytest.mark.parametrize(
    "plan", ['{"dynamic"', "[]", '{"dynamic": []}', '{"dynamic": {"all": "a/b"}}', '{"dynamic": {"all": [1]}}']
)
def test_a_plan_that_cannot_be_read_is_named(complete: tuple[Path, list[Any]], plan: str) -> None:
    results, _ = complete
    (results / "plan.json").write_text(plan)
    with pytest.raises(
        PydynError, match=r"plan\.json: not a readable plan \(.*\); give the workflow's command once more"
    ):
        read_status(results)


def test_where_nothing_was_started_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        PydynError, match=r"is not there\); start the workflow, or name the folder that `results` names"
    ):
        read_status(tmp_path)
