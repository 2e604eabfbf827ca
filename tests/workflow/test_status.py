"""`pydyn status` tells from files what is complete, in work, failed and left."""

import fcntl
import json
import subprocess
import sys

import h5py
import pytest

from pydyn.config.main import load
from pydyn.errors import PydynError
from pydyn.provenance import training_digest
from pydyn.selection.dynamic import Dynamic
from pydyn.status import describe, read_status
from pydyn.studies import registry
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.training import outdated
from tests.workflow_copy import ENVIRONMENT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("finished workflow")]


def status_of(workflow, study="dynamic"):
    statuses, problems = read_status(workflow.results)
    assert not problems
    return next(status for status in statuses if status.study == study)


@pytest.fixture
def workflow_of_runs(copied):
    files = [copied.folder / name for name in ("config.yaml", "workflow/presets/ci.yaml", "changes.yaml")]
    return copied, registry.runs(load(*files), "dynamic")


def test_tests_of_the_finished_workflow_are_one_group(request):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("groups are for several processes: make test")
    assert request.node.nodeid.endswith("@finished workflow")  # else each process would run it anew, for two minutes


def test_a_finished_workflow_has_nothing_to_go(finished):
    statuses, problems = read_status(finished.results)
    assert not problems
    assert [status.study for status in statuses] == ["dynamic", "frugal", "architectures", "shapes"]
    for status in statuses:
        assert status.count("complete") == len(status.runs) > 0
        assert status.seconds_spent > 0
        assert status.seconds_left == 0


def test_runs_on_other_data_are_outdated(workflow_of_runs):
    workflow, runs = workflow_of_runs
    store = workflow.results / "data" / f"{runs[0].dataset}.h5"
    (runs[0].directory(workflow.results) / "summary.json").unlink()
    with h5py.File(store, "r+") as file:
        file.attrs["digest"] = "0" * 64
    status = status_of(workflow)
    assert status.count("outdated") == len(status.runs) == len(runs)
    assert status.seconds_spent == 0
    assert status.seconds_left > 0
    (line,) = [line for line in describe([status], []).splitlines() if line.startswith("outdated")]
    assert line.startswith(f"outdated: {len(runs)} of dynamic, such as {runs[0].id}: what is there came from another")
    store.unlink()
    assert status_of(workflow).count("complete") == len(runs) - 1


def test_runs_of_other_code_are_outdated(workflow_of_runs, monkeypatch):
    workflow, runs = workflow_of_runs
    (runs[0].directory(workflow.results) / "summary.json").unlink()
    monkeypatch.setattr(
        outdated, "training_digest", lambda strategy: "other" if strategy is Dynamic else training_digest(strategy)
    )
    old = {each.run.id for each in status_of(workflow).runs if each.state == "outdated"}
    assert old == {run.id for run in runs if isinstance(run.strategy, Dynamic)}
    monkeypatch.setattr(outdated, "heads_digest", lambda: "other")
    kinds = {type(each.run) for each in status_of(workflow, "frugal").runs if each.state == "outdated"}
    assert kinds == {HeadRun}


def test_runs_of_another_configuration_are_outdated_though_their_ids_are_the_same(workflow_of_runs):
    workflow, _ = workflow_of_runs
    config = json.loads((workflow.results / "config.json").read_text())
    config["frugal"].setdefault("heads", {})["patience"] = 77
    (workflow.results / "config.json").write_text(json.dumps(config))
    kinds = {type(each.run): each.state for each in status_of(workflow, "frugal").runs}
    assert kinds == {HeadRun: "outdated", FineTuningRun: "complete"}


def test_heads_on_other_features_are_outdated(workflow_of_runs):
    workflow, _ = workflow_of_runs
    head = next(each.run for each in status_of(workflow, "frugal").runs if isinstance(each.run, HeadRun))
    with h5py.File(head.features.directory(workflow.results) / "features.h5", "r+") as file:
        file.attrs["digest"] = "0" * 64
    old = {each.run.features for each in status_of(workflow, "frugal").runs if each.state == "outdated"}
    assert old == {head.features}


def test_status_imports_no_torch():
    code = "import sys; import pydyn.status; print(sorted({'torch', 'sklearn', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_state_is_told_apart(workflow_of_runs):
    workflow, runs = workflow_of_runs
    left, begun, in_work, failed = runs[0], runs[1], runs[2], runs[-1]
    for run in (left, begun, in_work, failed):
        (run.directory(workflow.results) / "summary.json").unlink()
    (left.directory(workflow.results) / "run.json").unlink()
    history = begun.directory(workflow.results) / "history.csv"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:2]))
    (begun.directory(workflow.results) / "checkpoint.pt").touch()
    log = next(
        path for path in (workflow.results / "logs" / "dynamic").glob("*.log") if f"{failed.id}:" in path.read_text()
    )
    log.write_text(log.read_text() + "pydyn: error: the roof fell in\n")
    directory = in_work.directory(workflow.results)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = status_of(workflow)
    found = {each.run.id: each for each in status.runs}
    assert {run.id: found[run.id].state for run in (left, begun, in_work, failed)} == {
        left.id: "left",
        begun.id: "begun",
        in_work.id: "in work",
        failed.id: "failed",
    }
    assert found[begun.id].epochs == 1
    assert "the roof fell in" in found[failed.id].problem
    assert status.count("complete") == len(runs) - 4
    assert 0 < status.seconds_left < status.seconds_spent


def test_a_job_that_was_asked_to_stop_has_not_failed(workflow_of_runs):
    workflow, runs = workflow_of_runs
    (runs[0].directory(workflow.results) / "summary.json").unlink()
    for log in (workflow.results / "logs" / "dynamic").glob("*.log"):
        log.write_text("pydyn: error: asked to stop after epoch 1 of 2; the same command goes on\n")
    assert status_of(workflow).count("failed") == 0


def test_an_error_that_names_no_run_is_shown_and_so_is_one_of_a_job_that_trains_nothing(workflow_of_runs):
    workflow, runs = workflow_of_runs
    for run in runs:
        (run.directory(workflow.results) / "summary.json").unlink()
        (run.directory(workflow.results) / "run.json").unlink()
    for log in (workflow.results / "logs" / "dynamic").glob("*.log"):
        log.write_text("pydyn: error: image store x.h5: differs from its digest\n")
    (workflow.results / "logs" / "prepare" / "shapes-hard.log").write_text("pydyn: error: no such image\n")
    statuses, problems = read_status(workflow.results)
    failed = [each for each in statuses[0].runs if each.state == "failed"]
    assert len(failed) == len(list((workflow.results / "logs" / "dynamic").glob("*.log")))
    assert "differs from its digest" in failed[0].problem
    (problem,) = problems
    assert "no such image" in problem


@pytest.mark.parametrize("name", ["config.json", "plan.json"])
def test_what_is_damaged_is_written_again_though_nothing_is_left_to_do(copied, name):
    (copied.results / name).write_text("{")
    with pytest.raises(PydynError, match=name):
        read_status(copied.results)
    done = copied.run()
    assert "Nothing to be done" in done.stdout + done.stderr
    read_status(copied.results)


@pytest.mark.parametrize("study", ["dynamic", "another"])
def test_a_plan_of_another_configuration_is_refused(finished, tmp_path, study):
    (tmp_path / "config.json").write_bytes((finished.results / "config.json").read_bytes())
    (tmp_path / "plan.json").write_text(json.dumps({study: {"chunk": ["no/such/run"]}}))
    with pytest.raises(PydynError, match=r"has Run 'no/such/run', which config\.json beside it has not"):
        read_status(tmp_path)


def test_on_the_command_line(finished, tmp_path):
    def status(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "pydyn", "status", *arguments],
            cwd=finished.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = status()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "study",
        "dynamic",
        "frugal",
        "architectures",
        "shapes",
    ]
    refused = status(str(tmp_path))
    assert refused.returncode == 1
    assert "no results of a workflow" in refused.stderr
