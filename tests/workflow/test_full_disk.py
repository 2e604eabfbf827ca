"""Every stage on a full disk: a clear line, nothing that looks complete, and the same command goes on when there is room."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pydyn.config.main import load
from pydyn.plan import make_plan
from tests.workflow_copy import ENVIRONMENT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("finished workflow")]
SHARD = "frugal/features/shapes-few/efficientnet_lite0-imagenet-64px/plain/shard-0-of-2.h5"


@pytest.fixture
def small_disk(finished, tmp_path):
    """The finished workflow's results on a disk of their own, which holds little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = sum(path.stat().st_size for path in finished.results.rglob("*") if path.is_file())
    n_files = sum(1 for _ in finished.results.rglob("*"))
    room = size + 4096 * n_files + 256 * 2**20  # a checkpoint of fine-tuning is large
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mount.stderr.strip()}")
    try:
        shutil.copytree(finished.results, folder / "results")
        yield folder / "results"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(results: Path, leave: int) -> Path:
    """Leave so many bytes."""
    filler = results / "filler"
    space = os.statvfs(results)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - leave)
    return filler


def stages(finished, results):
    """Of each stage its command and what it makes."""
    config = load(*[finished.folder / name for name in ("config.yaml", "workflow/presets/ci.yaml", "changes.yaml")])
    plan = make_plan(config.model_dump(mode="json", exclude_none=True))

    def training(study, pattern):
        run = next(run for chunk in plan.chunks[study].values() for run in chunk.runs if pattern in run.id)
        return ["train", f"--run={run.id}", study], run.directory(results)

    def features(verb, *more, made):
        identity = str(Path(SHARD).parent).removeprefix("frugal/features/")
        if verb == "adapt":
            identity = identity.replace("plain", "adapted-declared-seed0")
        path = results / "frugal" / "features" / identity / made
        return ["features", verb, "--output", str(path), *more, identity], path

    store = results / "data" / "shapes-hard.h5"
    page = results / "report" / "index.html"
    return {
        "prepare": (["prepare", "--output", str(store), "shapes-hard"], store),
        "train from scratch": training("dynamic", "full"),
        "adapt": features("adapt", made="adapted.safetensors"),
        "extract": features("extract", "--shard", "0", made="shard-0-of-2.h5"),
        "join": features("join", made="features.h5"),
        "train heads": training("frugal", "plain-linear"),
        "fine-tune": training("frugal", "fine-tuning"),
        "train a population": training("shapes", "/3-4/"),
        "analyse": training("shapes", "analyses"),
        "report": (["report", "--output", str(page)], page),
    }


STAGES = (
    *(
        "prepare",
        "train from scratch",
        "adapt",
        "extract",
        "join",
        "train heads",
        "fine-tune",
        "train a population",
        "analyse",
    ),
    "report",
)


# With a little room a training begins, and fails when it saves.
CASES = [
    *((stage, 0) for stage in STAGES),
    *((stage, 48 * 1024) for stage in ("train from scratch", "fine-tune", "report")),
]


@pytest.mark.parametrize(("stage", "leave"), CASES)
def test_a_stage_on_a_full_disk_says_so_and_goes_on_when_there_is_room(finished, small_disk, stage, leave):
    verb, made = stages(finished, small_disk)[stage]
    arguments = [verb[0], *verb[1:2]] if verb[0] == "features" else verb[:1]
    config = small_disk / "config.json"
    config.write_text(config.read_text().replace('"results": "results"', f'"results": "{small_disk}"'))
    command = [sys.executable, "-m", "pydyn", *arguments, "--config", str(config), *verb[len(arguments) :]]

    def run():
        return subprocess.run(
            command, cwd=finished.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
        )

    shutil.rmtree(made) if made.is_dir() else made.unlink()
    # Of the report every file is new: it has to fail at one of them, whichever it is.
    filler = fill(small_disk, leave)
    failed = run()
    assert failed.returncode == 1, failed.stdout + failed.stderr
    lines = failed.stderr.strip().splitlines()
    assert "Traceback" not in failed.stderr
    assert "No space left on device; make room" in lines[-1]
    assert str(small_disk) in lines[-1]
    assert not (made / "summary.json").exists() if made.suffix == "" else not made.exists()
    assert not [path for path in small_disk.rglob("*") if "pydyn-part" in path.name]

    filler.unlink()
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (made / "summary.json").exists() if made.suffix == "" else made.exists()
