"""The study `shapes` through Snakemake: the preset, and an analysis that follows its population."""

import pandas as pd
import pytest

from pydyn.config.main import load
from pydyn.studies import registry
from pydyn.training.population_summary import read_population_summary

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("finished workflow")]


def lists_of(workflow):
    files = ("config.yaml", "workflow/presets/ci.yaml", "changes.yaml")
    return registry.experiments(load(*[workflow.folder / name for name in files]), "shapes")


def test_every_run_is_complete_and_in_the_report(finished):
    runs = [run for listed in lists_of(finished).values() for run in listed]
    table = pd.read_csv(finished.results / "report" / "tables" / "runs.csv")
    assert set(table[table.study == "shapes"].run) == {run.setting for run in runs}
    assert all(run.is_complete(finished.results) for run in runs)


def test_a_population_that_changes_is_analysed_again_and_others_stay(copied):
    before = lists_of(copied)
    times = {
        run.id: (run.directory(copied.results) / "summary.json").stat().st_mtime_ns
        for run in before["trainings"] + before["causes"]
    }
    (analysis,) = before["analyses"]
    chosen = analysis.population.directory(copied.results) / "summary.json"
    chosen.unlink()
    copied.change(studies=["shapes"])
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_population_summary(chosen).run == analysis.population
    after = {
        run.id: (run.directory(copied.results) / "summary.json").stat().st_mtime_ns
        for run in before["trainings"] + before["causes"]
    }
    assert {name for name in after if after[name] != times[name]} == {analysis.population.id}
    assert analysis.is_complete(copied.results)
