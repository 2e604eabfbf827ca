"""The workflow on a real SLURM: from nothing to the report, and whatever happens to jobs on a cluster on the way."""

import os
import signal
import time
from dataclasses import replace

import pytest

from pydyn.config.main import load
from pydyn.studies import registry
from pydyn.training.summary import read_summary

pytestmark = pytest.mark.slow
HEAVY = {
    *(
        "prepare",
        "train_dynamic",
        "train_architectures",
        "adapt_backbone",
        "extract_features",
        "train_heads",
        "fine_tune",
    ),
    *("train_populations", "analyse_filters", "report"),
}


def rules_of(jobs):
    """The rule of each job: the comment is `rule_NAME` or `rule_NAME_wildcards_...`."""
    return [comment.removeprefix("rule_").partition("_wildcards")[0] for _, _, comment, _ in jobs]


def jobs_since(slurm, before):
    return [job for job in slurm.jobs() if job not in before]


def trainings(slurm, before):
    jobs = jobs_since(slurm, before)
    return [job for job, rule in zip(jobs, rules_of(jobs), strict=True) if rule == "train_dynamic"]


def make_long(workflow, epochs=150):
    """One job that trains four Runs."""
    trials = [{"strategy": {"name": "full"}}, {"strategy": {"name": "fixed", "alpha": 0.5}}]
    changes = {"epochs": epochs, "protocols": ["paper"], **dict.fromkeys(["grid", "robustness", "augmentation"])}
    comparison = {"replicates": 2, "trials": trials}
    workflow.change(studies=["dynamic"], chunk_images=1_000_000, dynamic={**changes, "comparison": comparison})
    config = load(*[workflow.folder / name for name in ("config.yaml", "workflow/presets/ci.yaml", "changes.yaml")])
    return registry.runs(config, "dynamic")


def summary(workflow, run):
    return run.directory(workflow.results) / "summary.json"


def wait_for(what, process, seconds=600):
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "the workflow ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_finished(workflow, runs, before):
    """Nothing that was complete was made again, and nothing was thrown away."""
    assert {run: summary(workflow, run).read_bytes() for run in before} == before
    assert all(run.is_complete(workflow.results) for run in runs)
    assert not (workflow.results / "dynamic" / "superseded").exists()
    assert (workflow.results / "report" / "index.html").exists()


def complete(workflow, runs):
    return {run: summary(workflow, run).read_bytes() for run in runs if run.is_complete(workflow.results)}


def sittings(workflow, runs):
    """Processes that had a part in training, counted for each Run: more than Runs if a checkpoint was gone on from."""
    return sum(read_summary(summary(workflow, run)).sittings for run in runs)


def start_and_wait_for_the_first_run(workflow, runs):
    process = workflow.start()
    wait_for(lambda: runs[0].is_complete(workflow.results), process)
    return process


def test_from_nothing_to_the_report_every_heavy_job_through_slurm(slurm, on_slurm):
    before = slurm.jobs()
    done = on_slurm.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_since(slurm, before)
    assert set(rules_of(jobs)) == HEAVY
    assert {state for _, state, _, _ in jobs} == {"COMPLETED"}
    assert (on_slurm.results / "report" / "index.html").exists()
    assert "Nothing to be done" in (again := on_slurm.run(tool="reproduce")).stdout + again.stderr


def test_a_cancelled_job_is_submitted_again_and_goes_on(slurm, on_slurm):
    runs = make_long(on_slurm)
    before_jobs = slurm.jobs()
    process = start_and_wait_for_the_first_run(on_slurm, runs)
    before = complete(on_slurm, runs)
    slurm.call("scancel", trainings(slurm, before_jobs)[0][0])
    assert process.wait(timeout=400) == 0
    assert len(before) < len(runs)
    assert [state for _, state, _, _ in trainings(slurm, before_jobs)] == ["CANCELLED", "COMPLETED"]
    assert sittings(on_slurm, runs) == len(runs) + 1
    assert_finished(on_slurm, runs, before)


def test_a_job_over_its_memory_limit_gets_more(slurm, on_slurm):
    runs = make_long(on_slurm, epochs=5)
    before_jobs = slurm.jobs()
    done = on_slurm.run("--set-resources", "train_dynamic:mem_mb=400*attempt*attempt", tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    states = [state for _, state, _, _ in trainings(slurm, before_jobs)]
    assert len(states) > 1
    assert states[0] != "COMPLETED"
    assert states[-1] == "COMPLETED"
    assert_finished(on_slurm, runs, {})


def test_a_job_whose_time_is_nearly_up_saves_and_its_next_attempt_goes_on(slurm, on_slurm):
    runs = make_long(on_slurm, epochs=300)
    before_jobs = slurm.jobs()
    process = on_slurm.start("--set-resources", "train_dynamic:runtime=attempt")  # one minute, then two
    wait_for(lambda: len(trainings(slurm, before_jobs)) > 1, process)
    before = complete(on_slurm, runs)
    assert process.wait(timeout=500) == 0
    first, *_, last = [state for _, state, _, _ in trainings(slurm, before_jobs)]
    assert (first, last) == ("FAILED", "COMPLETED")
    assert sittings(on_slurm, runs) > len(runs)
    assert_finished(on_slurm, runs, before)


def test_a_controller_that_is_killed_and_started_again_disturbs_nothing(slurm, on_slurm):
    runs = make_long(on_slurm)
    before_jobs = slurm.jobs()
    process = start_and_wait_for_the_first_run(on_slurm, runs)
    before = complete(on_slurm, runs)
    slurm.kill_controller()
    time.sleep(5)
    slurm.start_controller()
    assert process.wait(timeout=400) == 0
    assert [state for _, state, _, _ in trainings(slurm, before_jobs)] == ["COMPLETED"]
    assert_finished(on_slurm, runs, before)


def test_after_a_kill_9_of_snakemake_the_same_command_cancels_what_it_left_and_finishes(slurm, on_slurm):
    runs = make_long(on_slurm, epochs=80)
    before_jobs = slurm.jobs()
    process = start_and_wait_for_the_first_run(on_slurm, runs)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = complete(on_slurm, runs)
    left = trainings(slurm, before_jobs)
    assert [state for _, state, _, _ in left] == ["RUNNING"]
    done = on_slurm.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Cancelling 1 SLURM jobs that a killed workflow has left: {left[0][0]}" in done.stdout
    assert [state for _, state, _, _ in trainings(slurm, before_jobs)] == ["CANCELLED", "COMPLETED"]
    assert_finished(on_slurm, runs, before)


def test_the_profile_of_commands_does_the_same(slurm, on_slurm):
    runs = make_long(on_slurm, epochs=5)
    options = ("--workflow-profile", "workflow/profiles/sbatch", "--latency-wait", "10")
    done = replace(on_slurm, options=options).run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    names = slurm.call("squeue", "--noheader", "--states=all", "--format", "%j").split()
    assert {"pydyn-prepare", "pydyn-train_dynamic", "pydyn-report"} <= set(names)
    assert_finished(on_slurm, runs, {})
