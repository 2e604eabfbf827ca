import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import heads
from benchmarks.heads import Stopwatch, fit_row, make_settings, n_flops, population_row, project, search_row

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def few_rows(monkeypatch):
    for name, value in {
        "N_ROWS": 300,
        "N_TRAIN": 200,
        "N_FEATURES": 24,
        "N_LATENT": 8,
        "N_HIDDEN": 16,
        "BATCH": 64,
    }.items():
        monkeypatch.setattr(heads, name, value)


@pytest.mark.parametrize("kind", ["linear", "redesigned"])
def test_a_row_compares_as_many_heads_at_once_as_one_by_one(few_rows, kind):
    row = population_row("heads 20", kind, 3, 20, "fp32", Stopwatch(CPU, 1), 2)
    assert (row.case, row.rival, row.rounds) == ("heads 20", "sequential", 2)
    assert row.ratio == pytest.approx(row.rival_seconds / row.ours_seconds)
    assert row.ratio > 1
    assert 0 < row.limit_fraction < 1


def test_the_limit_counts_every_matrix_product(few_rows):
    data = heads.make_data(3, "fp32", CPU)
    linear, redesigned = (make_settings(kind, 1)[0] for kind in ("linear", "redesigned"))
    assert n_flops(data, linear) == 2 * 24 * 3 * (2 * 200 + 100) + 2 * 100 * 3  # and the counts of classes
    first, last = 2 * 24 * 16, 2 * 16 * 3
    assert n_flops(data, redesigned) == 200 * (2 * first + 3 * last) + 100 * (first + last) + 2 * 100 * 3


@pytest.mark.parametrize("kind", ["linear", "redesigned"])
def test_settings_differ_and_fewer_are_the_first_of_more(kind):
    settings = make_settings(kind, 160)
    assert len(set(settings)) == 160
    assert make_settings(kind, 10) == settings[:10]
    assert len({setting.learning_rate for setting in settings[:10]}) > 2


def test_searches_are_projected_from_one_head_and_1000_rows(few_rows):
    row = search_row("search linear 10", "linear", 10, "fp32", Stopwatch(CPU, 1), 1)
    assert project(replace(row, ours_seconds=2e-3), n_rows=10_000, n_heads=40, epochs=5) == pytest.approx(4.0)
    # Two hundred rows are a fifth of a thousand.
    assert project(row, 200, 10, 1) < 10


def test_scikit_learn_fits_beside_ours(few_rows, capsys):
    row = fit_row("heads 16 fit 3", 3, 16, "fp32", Stopwatch(CPU, 1), 1)
    assert row.rival == "sklearn"
    said = capsys.readouterr().out
    ours, theirs = (float(said.split(name)[1].split()[0]) for name in ("ours ", "sklearn "))
    assert ours > 0.5
    assert ours == pytest.approx(theirs, abs=0.1)


@pytest.mark.slow
def test_prints_a_table_and_writes_rows(tmp_path):
    command = [sys.executable, "-m", "benchmarks.heads", "--quick", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [*command, "--json", tmp_path / "rows.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["case"].startswith("heads 160 linear 3")
    assert row["case"] in done.stdout
    assert row["ratio"] > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "no such case"], "no case holds that"),
        (["--threads", "0"], "--rounds and --threads are at least 1"),
        (["--rounds", "-1"], "--rounds and --threads are at least 1"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["heads", *arguments])
    with pytest.raises(SystemExit):
        heads.main()
    assert message in capsys.readouterr().err.splitlines()[-1]
