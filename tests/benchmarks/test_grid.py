import json
from functools import partial

import pytest

from pydyn.training.summary import read_summary, write_summary
from tests.benchmarks.running import run_benchmark
from tests.report.conftest import configure, write_run

run = partial(run_benchmark, "grid")
PUBLISHED = {"grid": {"alpha": [15000, 20000, 25000], "beta": [0.1, 0.7], "gamma": [0.97]}}


@pytest.fixture
def runs():
    from pydyn.studies.registry import runs

    scale = {"protocols": ["paper", "holdout"], "epochs": 200, "batch_size": 512, "comparison": None, **PUBLISHED}
    return runs(configure({"dynamic": scale}), "dynamic")


def write(results, run, seconds):
    write_run(results, run, "d" * 16, (45_000, 5_000, 10_000))
    path = run.directory(results) / "summary.json"
    values = json.loads(path.read_text())
    values["seconds"] = {"train": seconds, "evaluate": 1.0, "select": 0.0}
    path.write_text(json.dumps(values))
    write_summary(path, read_summary(path))


def test_projects_cells_from_those_of_as_many_images(tmp_path, runs):
    chosen = {(run.strategy.alpha, run.strategy.beta): run for run in runs if run.protocol == "paper"}
    for (alpha, beta), seconds in {(15000, 0.1): 9, (15000, 0.7): 19, (20000, 0.7): 29, (25000, 0.1): 39}.items():
        write(tmp_path, chosen[alpha, beta], float(seconds))
    other = next(run for run in runs if run.protocol == "holdout")
    write(tmp_path, other, 1000.0)
    done = run(tmp_path, "--json", tmp_path / "grid.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "grid.json").read_text())
    # Of 15,000 images two cells are known, the other five last as long as their mean.
    assert result["seconds"] == pytest.approx(10 + 20 + 5 * 15 + 7 * 30 + 7 * 40)
    assert (result["cells"], result["cells_measured"], len(result["runs"])) == (21, 4, 4)
    assert "projected" in done.stdout


def test_too_few_runs_are_refused(tmp_path, runs):
    for alpha in (15000, 20000):
        write(tmp_path, next(r for r in runs if r.strategy.alpha == alpha and r.protocol == "paper"), 9.0)
    done = run(tmp_path)
    assert done.returncode == 2
    assert "2 complete Runs of the grid, and none of [25000] images" in done.stderr
