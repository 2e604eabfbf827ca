"""The command line: what a person types, and how mistakes are told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pydyn.cli import main
from pydyn.errors import Stopped

ROOT = Path(__file__).parents[1]


def pydyn(*arguments, cwd):
    command = [sys.executable, "-m", "pydyn", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def folder(tmp_path):
    config = {
        "studies": ["dynamic"],
        "datasets": {"tiny": {"source": "shapes", "train": 60, "test": 30, "image_size": 16}},
        "dynamic": {
            "dataset": "tiny",
            "protocols": ["paper"],
            "epochs": 1,
            "comparison": {"trials": [{"strategy": {"name": "full"}}]},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_from_images_to_a_trained_run_by_hand(folder):
    listed = pydyn("check", cwd=folder)
    assert listed.stdout.splitlines() == ["dynamic: 1 Runs in 1 jobs", "  tiny/paper/cnn_a/full-e1/seed0"]
    assert pydyn("prepare", "--output", "results/data/tiny.h5", "tiny", cwd=folder).returncode == 0
    arguments = ["train", "--run", "tiny/paper/cnn_a/full-e1/seed0", "--done", "done.json", "dynamic"]
    trained = pydyn(*arguments, cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert "done, accuracy" in trained.stdout
    assert json.loads((folder / "done.json").read_text())["runs"][0]["id"] == "tiny/paper/cnn_a/full-e1/seed0"
    assert "complete already" in pydyn(*arguments, cwd=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prepare", "--output", "x.h5", "other"], "data set 'other' is not declared, allowed are: tiny"),
        (["train", "--run", "no/such/run", "dynamic"], "Run 'no/such/run' is not in the study dynamic"),
        (["train", "--run", "x", "frugal"], "study 'frugal' is not chosen, allowed are: dynamic"),
        (["train", "--run", "tiny/paper/cnn_a/full-e1/seed0", "dynamic"], "tiny.h5 does not exist"),
        (["reproduce", "--cores", "1", "--directory", "x"], "--directory: `pydyn reproduce` works in the folder"),
        (["check", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
    ],
)
def test_mistakes_are_one_line_and_a_non_zero_exit(folder, arguments, expected):
    done = pydyn(*arguments, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("pydyn: error: ")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {"config.yaml", ".seed0.lock"}


def test_help_is_quick_to_load_and_names_every_verb():
    code = "import sys; from pydyn.cli import cli; assert not {'torch', 'numpy', 'yaml'} & set(sys.modules); print(*cli.commands)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "check",
        "prepare",
        "features",
        "train",
        "export",
        "predict",
        "report",
        "status",
        "doctor",
        "reproduce",
        "schema",
    }


def test_work_that_was_asked_to_stop_ends_with_try_again(monkeypatch, capsys):
    def stopped(**_):
        raise Stopped("run: saved")

    monkeypatch.setattr("pydyn.cli.cli", stopped)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 75
    assert "run: saved" in capsys.readouterr().err
