"""The whole workflow through Snakemake: from a source of images to a report, again, changed, interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import pandas as pd
import psutil
import pytest

from pydyn.config.main import load
from pydyn.data.store import ImageStore
from pydyn.studies import registry
from pydyn.training.summary import read_summary
from tests.workflow_copy import copy_workflow

# The finished workflow is made once, so what reads it runs in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("finished workflow")]
alone = pytest.mark.xdist_group("workflows of their own")


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_data(self, data):
        self.text.append(data)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]


def runs_of(workflow):
    config = load(*[workflow.folder / name for name in ("config.yaml", "workflow/presets/ci.yaml", "changes.yaml")])
    return registry.runs(config, "dynamic")


def summaries(workflow, runs):
    return {run.id: (run.directory(workflow.results) / "summary.json").read_bytes() for run in runs}


def files_of(workflow):
    return {path for path in workflow.results.rglob("*") if path.is_file()}


def test_every_run_is_complete_and_the_report_shows_it(finished):
    runs = runs_of(finished)
    assert len(runs) > 20
    page = _Page()
    page.feed((finished.results / "report" / "index.html").read_text())
    text = " ".join(page.text)
    for run in runs:
        summary = read_summary(run.directory(finished.results) / "summary.json")
        assert summary.run == run
        assert run.setting.rpartition("/")[2] in text
    assert not [link for link in page.links if link.startswith(("http:", "https:", "//"))]


def test_the_reports_tables_hold_what_the_summaries_say(finished):
    table = pd.read_csv(finished.results / "report" / "tables" / "runs.csv")
    table = table[table.study == "dynamic"]
    rows = {f"{row.run}/seed{row.seed}": row for row in table.itertuples()}
    runs = runs_of(finished)
    assert set(rows) == {run.id for run in runs}
    for run in runs:
        summary = read_summary(run.directory(finished.results) / "summary.json")
        assert rows[run.id].accuracy_percent == pytest.approx(100 * summary.reported_accuracy)
        assert rows[run.id].seconds_total == pytest.approx(summary.seconds.total)


def test_nothing_is_left_to_do_and_every_rule_left_its_log_and_benchmark(finished):
    again = finished.run(tool="reproduce")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert again.stdout.splitlines()[-1] == f"Report: {finished.results / 'report' / 'index.html'}"
    chunks = {path.stem for path in (finished.results / "dynamic" / "chunks").glob("*.json")}
    assert {path.stem for path in (finished.results / "logs" / "dynamic").glob("*.log")} == chunks
    assert {path.stem for path in (finished.results / "benchmarks" / "dynamic").glob("*.tsv")} == chunks
    assert not [path for path in files_of(finished) if "pydyn-part" in path.name]


def test_a_changed_parameter_trains_again_only_what_it_touches(copied):
    before = summaries(copied, runs_of(copied))
    copied.change(dynamic={"grid": {"beta": [0.3, 0.5]}})
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    runs = runs_of(copied)
    after = summaries(copied, runs)
    new = [run for run in runs if run.id not in before]
    assert new
    assert all(run.strategy.beta == 0.5 for run in new)
    assert all(after[run_id] == before[run_id] for run_id in after if run_id in before)
    trained = [line for line in (done.stdout + done.stderr).splitlines() if ": done, accuracy" in line]
    assert len(trained) == len(new)


def test_a_changed_data_set_trains_everything_again_and_keeps_the_old_aside(copied):
    before = summaries(copied, runs_of(copied))
    copied.change(datasets={"shapes-hard": {"noise": 0.3}})
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    after = summaries(copied, runs_of(copied))
    assert after.keys() == before.keys()
    assert all(after[run_id] != before[run_id] for run_id in after)
    kept = {path.read_bytes() for path in (copied.results / "dynamic" / "superseded").rglob("summary.json")}
    assert kept == set(before.values())


def test_a_run_whose_folder_was_removed_is_trained_again_and_no_other(copied):
    runs = runs_of(copied)
    before = summaries(copied, runs)
    shutil.rmtree(runs[3].directory(copied.results))
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    after = summaries(copied, runs)
    assert [run.id for run in runs if after[run.id] != before[run.id]] == [runs[3].id]


def test_it_runs_for_another_folder_and_in_one_with_a_space(copied):
    copied.change(
        studies=["dynamic"],
        results="the results",
        dynamic={"grid": None, "robustness": None, "protocols": ["paper"], "comparison": {"replicates": 1}},
    )
    elsewhere = copied.folder / "else where"
    done = copied.run("--directory", str(elsewhere))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "the results" / "report" / "index.html").exists()


def test_a_report_that_was_deleted_is_written_again_without_training(copied):
    (copied.results / "report" / "index.html").unlink()
    done = copied.run()
    assert done.returncode == 0
    assert "train_dynamic" not in done.stdout + done.stderr
    assert (copied.results / "report" / "index.html").exists()


def start_long(workflow, tool="reproduce"):
    """Start a workflow of one job with four Runs, long enough to be killed in the middle; wait until the first is complete."""
    trials = [{"strategy": {"name": "full"}}, {"strategy": {"name": "fixed", "alpha": 0.5}}]
    changes = {"epochs": 20, "protocols": ["paper"], **dict.fromkeys(["grid", "robustness", "augmentation"])}
    comparison = {"replicates": 2, "trials": trials}
    workflow.change(studies=["dynamic"], chunk_images=1_000_000, dynamic={**changes, "comparison": comparison})
    process = workflow.start(tool=tool)
    runs = runs_of(workflow)
    deadline = time.monotonic() + 300
    while not (runs[0].directory(workflow.results) / "summary.json").exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, runs


def is_complete(workflow, run):
    return (run.directory(workflow.results) / "summary.json").exists()


@alone
@pytest.mark.parametrize("killed", ["the training process", "Snakemake alone", "all of them"])
def test_after_a_kill_9_the_same_command_finishes_and_trains_nothing_twice(workflow, killed):
    process, runs = start_long(workflow)
    children = psutil.Process(process.pid).children(recursive=True)
    if killed == "the training process":
        next(child for child in reversed(children) if "train" in child.cmdline()).kill()
        assert process.wait(timeout=60) != 0
    elif killed == "Snakemake alone":
        next(child for child in children if "snakemake" in child.cmdline()).kill()
        assert process.wait(timeout=60) != 0
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not list((workflow.results / "dynamic" / "chunks").glob("*.json"))
    complete = [run for run in runs if is_complete(workflow, run)]
    assert len(complete) < len(runs)
    before = summaries(workflow, complete)

    done = workflow.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    after = summaries(workflow, runs)
    assert {run_id: after[run_id] for run_id in before} == before
    assert (workflow.results / "report" / "index.html").exists()
    # An orphaned job is waited for, so that it finishes all Runs itself; otherwise the one that was cut short goes on.
    assert not (workflow.results / "dynamic" / "superseded").exists()
    assert not [path for path in files_of(workflow) if "pydyn-part" in path.name]


@alone
def test_a_living_snakemake_is_not_disturbed(workflow, tmp_path_factory):
    process, runs = start_long(workflow, tool="snakemake")
    training = next(each for each in psutil.Process(process.pid).children(recursive=True) if "train" in each.cmdline())
    training.suspend()  # so that it still lives when all has been tried
    second = workflow.run(tool="reproduce")
    assert second.returncode != 0
    assert "another workflow works in this folder (process " in second.stdout + second.stderr
    elsewhere = copy_workflow(tmp_path_factory.mktemp("elsewhere"))
    shutil.copy(workflow.folder / "changes.yaml", elsewhere.folder)
    third = elsewhere.run("--config", f"results={workflow.results}", tool="reproduce")
    assert third.returncode != 0
    assert f"{workflow.results}': another workflow works in this folder (process " in third.stdout + third.stderr
    assert "Traceback" not in third.stdout + third.stderr
    planned = elsewhere.run("-n", "--config", f"results={workflow.results}", tool="reproduce")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    training.resume()
    assert process.wait(timeout=300) == 0
    assert all(is_complete(workflow, run) for run in runs)


@alone
def test_sigterm_makes_the_jobs_of_this_machine_save_and_ends(workflow):
    process, runs = start_long(workflow)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    complete = [run for run in runs if is_complete(workflow, run)]
    assert len(complete) < len(runs)
    log = next((workflow.results / "logs" / "dynamic").glob("*.log"))
    assert "asked to stop" in log.read_text().splitlines()[-1]
    done = workflow.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(is_complete(workflow, run) for run in runs)
    assert not (workflow.results / "dynamic" / "superseded").exists()


def test_a_store_damaged_after_the_fact_is_refused_and_nothing_looks_trained(copied):
    store = copied.results / "data" / "shapes-hard.h5"
    content = bytearray(store.read_bytes())
    with ImageStore.open(store) as opened:
        pixels = opened.images()[10].tobytes()
    where = content.index(pixels)
    content[where] ^= 1
    store.write_bytes(content)
    chunk = sorted((copied.results / "dynamic" / "chunks").glob("*.json"))[0]
    chunk.unlink()
    done = copied.run()
    assert done.returncode != 0
    assert "differs from its digest" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not chunk.exists()


def test_snakemake_finds_nothing_to_say_about_the_rules_but_that_they_share_one_environment(workflow):
    command = [sys.executable, "-m", "snakemake", "--lint"]
    lint = subprocess.run(command, cwd=workflow.folder, capture_output=True, text=True, check=False, timeout=120)
    titles = {line.strip() for line in (lint.stdout + lint.stderr).splitlines() if line.startswith("    * ")}
    # One environment for all rules, the one that Snakemake runs in: its versions are locked in requirements.lock.
    assert titles == {"* Specify a conda environment or container for each rule.:"}


def test_snakemakes_own_report_holds_the_page_with_its_tables_and_figures(finished, tmp_path):
    done = finished.run("--report", str(tmp_path / "own.html"))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "own.html").read_text()
    for name in ("index.html", "runs.csv", "dynamic-grid-accuracy.svg"):
        assert f'"{name}"' in text
    for caption in (finished.folder / "workflow" / "report").glob("*.rst"):
        assert caption.read_text().partition(",")[0] in text


@alone
def test_of_another_declaration_a_store_is_made_again_without_records_that_tell_but_not_for_a_question(workflow):
    workflow.change(studies=["shapes"])
    store = workflow.results / "data" / "shapes-1.3.h5"
    target = str(store.relative_to(workflow.folder))
    assert (done := workflow.run("--", target)).returncode == 0, done.stdout + done.stderr
    before = store.read_bytes()
    shutil.rmtree(workflow.folder / ".snakemake")
    workflow.change(studies=["shapes"], datasets={"shapes-1.3": {"train": 60}})
    for question in (["--summary"], ["--lint"]):
        workflow.run(*question)
        assert store.read_bytes() == before, question
    assert (done := workflow.run("--", target)).returncode == 0, done.stdout + done.stderr
    with ImageStore.open(store) as made:
        assert len(made.indices("train", "validation")) == 60
