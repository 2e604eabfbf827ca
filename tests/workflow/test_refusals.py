"""Mistakes met on the way through Snakemake: one clear line, a non-zero exit, nothing written."""

import subprocess
import sys

import pytest

MISTAKES = {
    "unknown key": ({"dynamic": {"epcohs": 3}}, "dynamic.epcohs: unknown key (did you mean 'epochs'?)"),
    "alpha above the pool": (
        {"dynamic": {"grid": {"alpha": [5000]}}},
        "alpha = 5000 is 5000 images, allowed is 1 to 200",
    ),
    "missing archive": (
        {
            "datasets": {"absent": {"source": "archive", "path": "no.tar", "split": {"method": "given"}}},
            "dynamic": {"dataset": "absent"},
        },
        "no.tar does not exist",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_refused_before_any_job(workflow, mistake):
    changes, expected = MISTAKES[mistake]
    workflow.change(**changes)
    done = workflow.run()
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert expected in output
    assert "Traceback" not in output
    assert not workflow.results.exists()


def test_a_key_that_stands_twice_is_refused_as_snakemake_would_take_the_last(workflow):
    (workflow.folder / "changes.yaml").write_text("dynamic: {epochs: 30}\nstudies: [dynamic]\ndynamic: {grid: null}\n")
    done = workflow.run("-n")
    assert done.returncode != 0
    assert "changes.yaml: has the key 'dynamic' in line 1 and again in line 3" in done.stdout + done.stderr
    assert not workflow.results.exists()


def test_a_folder_of_results_that_cannot_be_written_is_named_in_a_line(workflow):
    done = workflow.run("--config", "results=/proc/pydyn")  # where nobody makes folders
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "/proc/pydyn: No such file or directory" in output
    assert "locks.py" not in output


def test_an_unreadable_data_set_ends_the_job_with_the_files_name(workflow):
    folder = workflow.folder / "images"
    for path in [folder / part / f"{number}.png" for part in "ab" for number in range(10)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    dataset = {
        "source": "folder",
        "path": "images",
        "split": {"method": "stratified", "test": 0.2},
        "limit": {"train": 12},
    }
    workflow.change(datasets={"broken": dataset}, dynamic={"dataset": "broken"})
    done = workflow.run()
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "a/1.png" in output
    assert "Traceback" not in output
    assert not list((workflow.results / "data").glob("*broken*"))


def test_planning_imports_no_torch():
    code = "import sys; import pydyn.plan, pydyn.cli; print(sorted({'torch', 'h5py', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
