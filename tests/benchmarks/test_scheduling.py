import json
from functools import partial

import pytest

from tests.benchmarks.running import run_benchmark

run = partial(run_benchmark, "scheduling")


@pytest.mark.slow
def test_sets_a_workflow_of_short_runs_beside_their_training(tmp_path):
    done = run("--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["case"] == "20 runs in 7 jobs, one machine"
    assert 0 < row["ratio"] < 1
    assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", 3), "--runs 3: allowed are multiples of 4"),
        (("--jobs-per-slot", 0), "--slots and --jobs-per-slot are at least 1"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
