"""A copy of the workflow to run Snakemake in, and Snakemake to run in it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Workflow:
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def command(self, *arguments: str, tool: str = "snakemake") -> list[str]:
        preset = ["--configfile", "workflow/presets/ci.yaml", "changes.yaml"]
        verb = ["snakemake"] if tool == "snakemake" else ["pydyn", "reproduce"]
        return [sys.executable, "-m", *verb, "--cores", "2", *preset, *arguments]

    def run(self, *arguments: str, tool: str = "snakemake") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, tool=tool),
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def start(self, tool: str) -> subprocess.Popen[bytes]:
        """In a process group of its own, to be killed."""
        return subprocess.Popen(
            self.command(tool=tool),
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def change(self, **changes) -> None:
        """Lay something over the preset."""
        (self.folder / "changes.yaml").write_text(yaml.safe_dump(changes))


def copy_workflow(folder: Path) -> Workflow:
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    workflow = Workflow(folder)
    workflow.change()
    return workflow


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    return copy_workflow(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The ci preset, run to its end once. Tests read it and copy it, but do not change it."""
    workflow = copy_workflow(tmp_path_factory.mktemp("finished"))
    done = workflow.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"Report: {workflow.results / 'report' / 'index.html'}"
    return workflow


@pytest.fixture
def copied(finished, tmp_path) -> Workflow:
    """A copy of the finished workflow, to change."""
    folder = tmp_path / "copied"
    shutil.copytree(finished.folder, folder)
    return Workflow(folder)
