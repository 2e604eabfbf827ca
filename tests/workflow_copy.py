"""A copy of the workflow to run Snakemake in, and Snakemake to run in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Workflow:
    folder: Path
    options: tuple[str, ...] = ("--cores", "2")
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def command(self, *arguments: str, tool: str = "snakemake") -> list[str]:
        preset = ["--configfile", "workflow/presets/ci.yaml", "changes.yaml"]
        verb = ["snakemake"] if tool == "snakemake" else ["pydyn", "reproduce"]
        return [sys.executable, "-m", *verb, *self.options, *preset, *arguments]

    def run(self, *arguments: str, tool: str = "snakemake") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, tool=tool),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )

    def start(self, *arguments: str, tool: str = "reproduce") -> subprocess.Popen[bytes]:
        """In a process group of its own, to be killed."""
        return subprocess.Popen(
            self.command(*arguments, tool=tool),
            cwd=self.folder,
            env=self.environment,
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
