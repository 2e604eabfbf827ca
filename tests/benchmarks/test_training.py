import json
from functools import partial

import pytest

from tests.benchmarks.running import run_benchmark

run = partial(run_benchmark, "training")


def test_prints_speeds_and_writes_a_row_for_each_rival(tmp_path):
    pytest.importorskip("torchvision")
    done = run("--images", 32, "--rounds", 1, "--threads", 1, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    assert "selection and gather take" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    rivals = [row["rival"] for row in rows]
    assert rivals[:2] == ["DataLoader", "airbench"]
    assert rivals[-1] == "epoch"
    for row in rows:
        assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])
    assert all(0 < row["limit_fraction"] < 1.5 for row in rows[:-1])


def test_wrong_arguments_are_refused_in_a_line():
    done = run("--rounds", 0)
    assert done.returncode == 2
    assert "--images, --rounds and --threads are at least 1" in done.stderr.splitlines()[-1]
