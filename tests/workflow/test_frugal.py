"""The study `frugal` through Snakemake: the preset, and a user's own folder of images."""

import csv
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file

from pydyn.config.main import load
from pydyn.models.backbones import build_backbone
from pydyn.studies import registry
from pydyn.studies.frugal_runs import HeadRun
from pydyn.training.frugal_summary import read_frugal_summary

pytestmark = pytest.mark.slow
in_finished = pytest.mark.xdist_group("finished workflow")
alone = pytest.mark.xdist_group("workflows of their own")


def runs_of(workflow, *files):
    config = load(*[workflow.folder / name for name in ("config.yaml", *files, "changes.yaml")])
    return registry.runs(config, "frugal")


@in_finished
def test_every_run_is_complete_and_in_the_report(finished):
    runs = runs_of(finished, "workflow/presets/ci.yaml")
    table = pd.read_csv(finished.results / "report" / "tables" / "runs.csv")
    shown = {f"{row.run}/seed{row.seed}": row for row in table[table.study == "frugal"].itertuples()}
    assert set(shown) == {run.id for run in runs}
    for run in runs:
        summary = read_frugal_summary(run.directory(finished.results) / "summary.json")
        assert summary.run == run
        assert shown[run.id].accuracy_percent == pytest.approx(100 * summary.test.accuracy)
    tables = {path.stem for path in (finished.results / "report" / "tables").glob("frugal-*.csv")}
    assert {"frugal-changes", "frugal-search"} <= tables


@in_finished
def test_a_lost_shard_is_extracted_again_when_heads_need_it_and_no_other(copied):
    heads = next(run for run in runs_of(copied, "workflow/presets/ci.yaml") if isinstance(run, HeadRun))
    folder = heads.features.directory(copied.results)
    other = (folder / "shard-0-of-2.h5").stat().st_mtime_ns
    (folder / "shard-1-of-2.h5").unlink()
    copied.change(studies=["frugal"], frugal={"heads": {"epochs": 2}, "fine_tuning": None})
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "shard-1-of-2.h5").exists()
    assert (folder / "shard-0-of-2.h5").stat().st_mtime_ns == other
    assert read_frugal_summary(heads.directory(copied.results) / "summary.json").epochs == 2


@in_finished
def test_adapted_statistics_that_were_removed_are_made_again_for_the_report_and_heads_stay(copied):
    heads = next(run for run in runs_of(copied, "workflow/presets/ci.yaml") if isinstance(run, HeadRun) and run.adapted)
    summary = heads.directory(copied.results) / "summary.json"
    adapted, before = heads.features.directory(copied.results) / "adapted.safetensors", summary.read_bytes()
    adapted.unlink()
    (copied.results / "report" / "index.html").unlink()
    done = copied.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert adapted.exists()
    assert (copied.results / "report" / "index.html").exists()
    assert summary.read_bytes() == before


@in_finished
def test_in_another_country_emissions_of_every_stage_are_read_again(copied):
    copied.change(frugal={"country": "DEU"})
    planned = copied.run("-n", "--quiet", "rules")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    rules = set(re.findall(r"^(\w+) +\d+$", planned.stdout + planned.stderr, flags=re.MULTILINE))
    assert {"adapt_backbone", "extract_features", "train_heads", "fine_tune"} <= rules
    assert not {"prepare", "train_dynamic"} & rules


def write_images(folder, classes=("ápple pie", "banana", "cherry"), count=30):
    """Images of one hue for each class, of several sizes and modes."""
    draw = np.random.default_rng(0)
    for hue, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            height, width = draw.integers(40, 90, 2)
            pixels = draw.integers(0, 120, (height, width, 3), dtype=np.uint8)
            pixels[..., hue] += 110
            image = Image.fromarray(pixels)
            if index % 10 == 0:
                image = image.convert("RGBA")
            image.save(folder / name / f"{index:02}.{'jpg' if index % 10 == 5 else 'png'}")


OWN = {
    "studies": ["frugal"],
    "datasets": {
        "mine": {
            "source": "folder",
            "path": "photos",
            "image_size": 64,
            "split": {"method": "stratified", "test": 0.3, "validation": 0.2},
        }
    },
    "frugal": {"datasets": ["mine"], "backbones": [{"name": "efficientnet_lite0", "input_size": 64}]},
}
QUICK = {"replicates": 1, "fine_tuning": None, "heads": {"epochs": 20}, "adaptation": {"max_batches": 2}}


def own(workflow, *arguments, **changes):
    """Lay a user's configuration over the demo's, with no preset."""
    workflow.change(**{**OWN, "frugal": {**OWN["frugal"], **QUICK}, **changes})
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "changes.yaml"]
    return subprocess.run(command, cwd=workflow.folder, capture_output=True, text=True, timeout=600, check=False)


@alone
def test_a_folder_of_images_gives_a_model_a_report_and_predictions(workflow):
    photos = workflow.folder / "photos"
    write_images(photos)
    (photos / "banana" / "notes.txt").write_text("not an image")
    corrupt = photos / "cherry" / "03.png"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    done = own(workflow, datasets={"mine": {**OWN["datasets"]["mine"], "skip_unreadable": True}})
    assert done.returncode == 0, done.stdout + done.stderr
    page = (workflow.results / "report" / "index.html").read_text()
    assert "ápple pie" in page
    assert "cherry/03.png" in page
    best = next(run for run in runs_of(workflow) if run.setting.endswith("adapted-redesigned-weighted"))
    assert read_frugal_summary(best.directory(workflow.results) / "summary.json").test.accuracy > 0.9
    corrupt.unlink()
    for verb in (
        ["export", "--output", "model", best.directory(workflow.results)],
        ["predict", "--output", "predicted.csv", "model", "photos"],
    ):
        command = [sys.executable, "-m", "pydyn", *map(str, verb)]
        subprocess.run(command, cwd=workflow.folder, check=True, capture_output=True)
    rows = list(csv.DictReader((workflow.folder / "predicted.csv").open()))
    assert len(rows) == 89
    assert np.mean([f"/{row['class']}/" in row["image"] for row in rows]) > 0.9


@alone
@pytest.mark.parametrize("mistake", ["empty class", "unknown backbone"])
def test_mistakes_are_named_in_a_line(workflow, mistake):
    write_images(workflow.folder / "photos", ("apple", "banana"), 6)
    if mistake == "empty class":
        (workflow.folder / "photos" / "cherry").mkdir()
        changes = {}
        expected = "no images in class folder 'cherry'; add images or remove the folder"
    else:
        changes = {"frugal": {**OWN["frugal"], "backbones": [{"name": "resnet19"}]}}
        expected = "backbone 'resnet19' is unknown, allowed are efficientnet_lite0"
    done = own(workflow, **changes)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert expected in output
    assert "Traceback" not in output
    assert not (workflow.results / "report").exists()


@alone
def test_weights_put_in_anothers_place_are_seen_even_if_they_are_older(workflow):
    write_images(workflow.folder / "photos", count=6)
    weights = workflow.folder / "mine.safetensors"
    save_file(build_backbone("efficientnet_lite0")[0].state_dict(), weights)
    backbone = {"name": "efficientnet_lite0", "input_size": 64, "weights": weights.name}
    changes = {"frugal": {**OWN["frugal"], **QUICK, "backbones": [backbone]}}
    target = "results/frugal/features/mine/efficientnet_lite0-mine-64px/plain/features.h5"
    done = own(workflow, target, **changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to be done" in (planned := own(workflow, "-n", target, **changes)).stdout + planned.stderr
    save_file(build_backbone("efficientnet_lite0", seed=1)[0].state_dict(), weights)
    os.utime(weights, (0, 0))
    planned = own(workflow, "-n", target, "--quiet", "rules", **changes)
    rules = set(re.findall(r"^(\w+) +\d+$", planned.stdout + planned.stderr, flags=re.MULTILINE))
    assert "extract_features" in rules and "prepare" not in rules, planned.stdout + planned.stderr
