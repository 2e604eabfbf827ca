"""Pages of synthetic results of the study frugal, and what tests ask of them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from pydyn.config.main import Config, overlay, parse
from pydyn.energy import Component, Reading
from pydyn.features.store import ADAPTED
from pydyn.metrics import measure
from pydyn.report.page import write_report
from pydyn.report.results import read_facts
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.studies.registry import runs
from pydyn.training.frugal_summary import FrugalSummary, write_frugal_summary
from tests.report.conftest import CLASSES, write_store

T_975 = {2: 12.706204736432095, 3: 4.302652729911275}
BASE: dict[str, Any] = {
    "studies": ["frugal"],
    "datasets": {
        "breakhis": {
            "source": "folder",
            "path": "nowhere",
            "split": {"method": "group", "test": 0.3, "group": {"pattern": "(?P<group>x)"}},
        }
    },
    "frugal": {
        "datasets": ["breakhis"],
        "backbones": [{"name": "resnet18"}],
        "replicates": 3,
        "splits": ["declared", "image"],
        "search": {"combinations": [10], "samples": [1000, 100_000]},
    },
}

TWO_DATA_SETS: dict[str, Any] = {
    "datasets": {"brain-mri": {"source": "shapes"}},
    "frugal": {"datasets": ["breakhis", "brain-mri"], "replicates": 2},
}


Change = Callable[[FrugalRun, FrugalSummary], FrugalSummary]


def reading(seconds: float, problem: str | None = None) -> Reading:
    if problem:
        return Reading(seconds, None, None, {}, "ESP", problem)
    parts = {"CPU": Component(seconds * 1e-6, "estimate (load x 8 W assumed for a test)")}
    return Reading(seconds, seconds * 1e-6, seconds * 2e-7, parts, "ESP")


def write_adaptation(features: Path, changes: list[float]) -> None:
    origin = json.dumps({"changes": changes, "stopped": "threshold"})
    save_file({"nothing": torch.zeros(0)}, features / ADAPTED, metadata={"pydyn": origin})


def level(run: FrugalRun) -> float:
    """How many of 60 test images are right."""
    right = 45.0 + (5 if run.splits == "image" else 0)
    if isinstance(run, HeadRun):
        right += 3 * run.adapted + 2 * (run.settings[0].kind == "redesigned") - run.weighted
    else:
        right += 6
    return right + run.seed * (1 if isinstance(run, HeadRun) else 2)


def write_run(results: Path, run: FrugalRun, data: str, problem: str | None) -> FrugalSummary:
    directory = run.directory(results)
    directory.mkdir(parents=True)
    for name in ("history.csv", "weights.safetensors"):  # which the page does not read
        (directory / name).touch()
    labels = np.arange(60) % 3
    wrong = np.arange(60) >= level(run)
    predicted = np.where(wrong, (labels + 1) % 3, labels)
    probabilities = np.full((60, 3), 0.1)
    probabilities[np.arange(60), predicted] = 0.8
    with (directory / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "group", "class", "predicted", *(f"p({name})" for name in CLASSES)])
        for row in range(60):
            writer.writerow([row, "", CLASSES[labels[row]], CLASSES[predicted[row]], *probabilities[row]])
    heads = isinstance(run, HeadRun)
    costs = {"training": reading(10.0 + run.seed if heads else 400.0 + 10 * run.seed, problem)}
    if heads:
        costs["extraction"] = reading(20.0, problem)
        if run.adapted:
            costs["adaptation"] = reading(5.0, problem)
            features = run.features.directory(results)
            features.mkdir(parents=True, exist_ok=True)
            write_adaptation(features, [0.01 * 0.9**batch for batch in range(20 + run.seed)])
    else:
        costs["search"] = reading(900.0, problem)
    metrics = measure(probabilities, labels, (np.arange(60) // 6).astype(np.int32))
    summary = FrugalSummary(
        run=run,
        fingerprint="f" * 16,
        code="c" * 16 if heads else "d" * 16,
        data=data,
        chosen={"learning_rate": 1e-3},
        n_candidates=6,
        best_epoch=3,
        epochs=5,
        validation=measure(np.full((60, 3), 1 / 3), labels, None),  # of which the page shows next to nothing
        test=metrics,
        n_train=108,
        n_validation=12,
        n_test=60,
        n_parameters=1000,
        costs=costs,
        device="CPU",
        precision="bf16",
        threads=1,
        versions={"torch": "2.11.0"},
        finished="2026-01-02T03:04:05+00:00",
    )
    write_frugal_summary(directory / "summary.json", summary)
    return summary


def synthesise(
    folder: Path, *changes: dict[str, Any], problem: str | None = None, other: Change = lambda run, summary: summary
) -> tuple[Config, dict[Any, FrugalSummary]]:
    raw = BASE
    for change in changes:
        raw = overlay(raw, change)
    config = parse(raw)
    for name in raw["frugal"]["datasets"]:
        write_store(folder, name)
    written = {}
    for run in runs(config, "frugal"):
        assert isinstance(run, FrugalRun)
        summary = other(run, write_run(folder, run, read_facts(run.dataset, folder).digest, problem))
        write_frugal_summary(run.directory(folder) / "summary.json", summary)
        written[run] = summary
    return config, written


def report(folder: Path, *changes: dict[str, Any], **options: Any) -> tuple[str, dict[Any, FrugalSummary]]:
    config, written = synthesise(folder, *changes, **options)
    write_report(config, folder, folder / "report" / "index.html", progress=lambda line: None)
    return (folder / "report" / "index.html").read_text(), written


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "report" / "tables" / f"{name}.csv")


# Test images over all others, of replicates that divide the same images: what the mean's variance has on top of 1 / n. Two
# replicates share 60 / 180 of their test images, whatever part of the others is for validation.
REDRAWN = 60 / (108 + 12)


def interval(sample: list[float], redrawn: float = REDRAWN) -> tuple[float, float]:
    error = float(np.std(sample, ddof=1)) * (1 / len(sample) + redrawn) ** 0.5
    return float(np.mean(sample)), T_975[len(sample)] * error


def chosen(written: dict[Any, FrugalSummary], splits: str, **facts: Any) -> list[FrugalSummary]:
    found = []
    for run, summary in written.items():
        if run.splits != splits or (isinstance(run, HeadRun) and run.purpose == "search"):
            continue
        if isinstance(run, FineTuningRun) == bool(facts):
            continue
        if isinstance(run, HeadRun):
            own = {"adapted": run.adapted, "kind": run.settings[0].kind, "weighted": run.weighted}
            if own != facts:
                continue
        found.append(summary)
    return found


PROPOSED = {"adapted": True, "kind": "redesigned", "weighted": True}
