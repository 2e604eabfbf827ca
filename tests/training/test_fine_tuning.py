"""Fine-tuning, from an image store to summaries: every rate is tried, stopped, killed, gone on with."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pydyn.config.datasets import ShapesDataset
from pydyn.data.inputs import BackboneInputs
from pydyn.data.parts import Parts
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.device import open_device
from pydyn.errors import Stopped
from pydyn.models.backbones import load_backbone
from pydyn.training import fine_tuning
from pydyn.training.checkpoint import load_checkpoint, save_checkpoint
from pydyn.training.fine_tuning import FineTuningEpoch, _ended, _judge, class_weights, training_precision
from pydyn.training.frugal_summary import read_frugal_summary
from pydyn.training.history import read_history
from tests.training.small_frugal import RAW, chosen, train


def with_images(folder):
    """An image store alone: fine-tuning needs no features."""
    prepare("tiny", ShapesDataset(**RAW["datasets"]["tiny"]), Path(), folder / "data" / "tiny.h5")
    return folder


@pytest.fixture
def results(tmp_path):
    return with_images(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a Run that was trained in one go."""
    (run,) = chosen("fine-tuning", 1)
    results = with_images(tmp_path_factory.mktemp("uninterrupted"))
    train([run], results)
    return run.directory(results)


def test_fine_tuning_tries_every_rate_and_keeps_the_best_by_validation_loss(results):
    (run,) = chosen("fine-tuning", 1)
    state = torch.random.get_rng_state()
    train([run], results)
    assert torch.equal(torch.random.get_rng_state(), state)
    directory = run.directory(results)
    rows = read_history(directory / "history.csv", FineTuningEpoch)
    assert [(row.candidate, row.epoch) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    best = min(rows, key=lambda row: row.validation_loss)
    summary = read_frugal_summary(directory / "summary.json")
    assert summary.chosen == {"learning_rate": run.fine_tuning.learning_rates[best.candidate]}
    assert summary.best_epoch == best.epoch
    assert summary.costs["search"].seconds > summary.costs["training"].seconds
    assert summary.costs["training"].seconds == pytest.approx(
        sum(row.seconds_train + row.seconds_evaluate for row in rows if row.candidate == best.candidate), rel=0.2
    )
    assert not (directory / "checkpoint.pt").exists()
    # All of the network moved.
    started = load_backbone(run.network).network.state_dict()
    tuned = load_file(directory / "weights.safetensors")
    moved = [name for name, value in started.items() if not torch.equal(value, tuned[f"features.{name}"])]
    assert len(moved) > 0.95 * len(started)


@pytest.mark.parametrize(("batch_size", "n_seen"), [(16, 43), (14, 42)])
def test_an_epoch_sees_the_training_images_once_in_an_order_and_with_changes_of_its_own(
    results, monkeypatch, batch_size, n_seen
):
    """But for a last one by itself, of which batch normalisation has no variance. Training images alone weigh classes."""
    seen, weighed = [], []
    augmented = BackboneInputs.augmented_batch
    monkeypatch.setattr(
        BackboneInputs,
        "augmented_batch",
        lambda self, rows, seed: seen.append((rows, seed)) or augmented(self, rows, seed),
    )
    monkeypatch.setattr(
        fine_tuning, "class_weights", lambda labels, n: weighed.append(labels.tolist()) or class_weights(labels, n)
    )
    (run,) = chosen("fine-tuning", 1)
    run = replace(run, fine_tuning=replace(run.fine_tuning, batch_size=batch_size))
    with pytest.raises(Stopped):
        train([run], results, iter([False, False, True]).__next__)
    with ImageStore.open(results / "data" / "tiny.h5") as store:
        rows = Parts.of(store, run.splits, run.seed).train
        assert weighed == [store.labels[rows].tolist()]
    assert len(seen) == 2 * 3 and len({seed for _, seed in seen}) == 6
    first, second = (np.concatenate([batch for batch, _ in epoch]).tolist() for epoch in (seen[:3], seen[3:]))
    assert first != second
    for epoch in (first, second):
        assert len(set(epoch)) == len(epoch) == n_seen and set(epoch) <= set(rows.tolist())


def test_the_validation_loss_weighs_classes():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    labels, weight = np.array([0, 1, 1]), torch.tensor([1.0, 3.0])
    loss, accuracy = _judge(probabilities, labels, weight)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(probabilities).log(), torch.from_numpy(labels), weight.double()
    )
    assert (loss, accuracy) == (pytest.approx(expected.item()), pytest.approx(2 / 3))


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_stopped_and_resumed_it_ends_as_if_never_stopped(results, uninterrupted, epochs_before):
    (run,) = chosen("fine-tuning", 1)
    directory = run.directory(results)
    asked = iter([False] * epochs_before + [True])
    with pytest.raises(Stopped, match="the same command goes on"):
        train([run], results, lambda: next(asked))
    assert len(read_history(directory / "history.csv", FineTuningEpoch)) == epochs_before
    train([run], results)
    assert without_seconds(directory) == without_seconds(uninterrupted)
    assert (directory / "weights.safetensors").read_bytes() == (uninterrupted / "weights.safetensors").read_bytes()
    assert json.loads((directory / "summary.json").read_text())["epochs"] == 2
    assert read_frugal_summary(directory / "summary.json").earlier_places == []


def test_started_again_elsewhere_it_goes_on_and_says_where_it_was(results):
    (run,) = chosen("fine-tuning", 1)
    directory = run.directory(results)
    asked = iter([False, True])
    with pytest.raises(Stopped):
        train([run], results, lambda: next(asked))
    save_checkpoint(
        directory / "checkpoint.pt", {**load_checkpoint(directory / "checkpoint.pt"), "place": "another CPU"}
    )
    before = read_history(directory / "history.csv", FineTuningEpoch)
    lines = train([run], results)
    here = open_device("cpu", 1).name
    assert any(f"its checkpoint was saved on another CPU; it goes on on {here}, " in line for line in lines)
    assert read_history(directory / "history.csv", FineTuningEpoch)[:1] == before
    assert read_frugal_summary(directory / "summary.json").earlier_places == ["another CPU"]


@pytest.mark.parametrize("missing", ["network", "best_loss", "best", "readings", "history"])
def test_beside_a_state_of_another_layout_it_begins_anew(results, missing):
    (run,) = chosen("fine-tuning", 1)
    path = run.directory(results) / "checkpoint.pt"
    with pytest.raises(Stopped):
        train([run], results, iter([False, True]).__next__)
    saved = load_checkpoint(path)
    del saved["state"][missing]
    save_checkpoint(path, saved)
    lines = train([run], results)
    assert any(f"does not fit (KeyError: '{missing}'); it begins anew" in line for line in lines)
    rows = read_history(path.with_name("history.csv"), FineTuningEpoch)
    assert [(row.candidate, row.epoch) for row in rows][:2] == [(0, 1), (0, 2)]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_as_if_never_killed(results, uninterrupted):
    (run,) = chosen("fine-tuning", 1)
    directory = run.directory(results)
    (results / "config.json").write_text(json.dumps({**RAW, "results": str(results)}))
    command = [
        sys.executable,
        "-m",
        "pydyn",
        "train",
        "--config",
        str(results / "config.json"),
        "--run",
        run.id,
        "frugal",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (directory / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (directory / "summary.json").exists()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert (directory / "weights.safetensors").read_bytes() == (uninterrupted / "weights.safetensors").read_bytes()


def without_seconds(directory):
    rows = read_history(directory / "history.csv", FineTuningEpoch)
    return [replace(row, seconds_train=0, seconds_evaluate=0) for row in rows]


def epoch(number, loss):
    return FineTuningEpoch(0, 1e-3, number, 1.0, loss, 0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([], False),
        ([3, 2, 1], False),
        ([1, 2, 3], True),
        ([2, 1, 3, 3], True),
        ([2, 1, 3], False),
        ([1, 1, 1], True),
    ],
)
def test_early_stopping(losses, ended):
    rows = [epoch(number, loss) for number, loss in enumerate(losses, 1)]
    assert _ended(rows, epochs=4, patience=2) == ended


def test_classes_weigh_the_same():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, 3)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert (weights[torch.from_numpy(labels)].sum() / len(labels)).item() == pytest.approx(1)


def test_depthwise_networks_train_in_single_precision_on_a_cpu():
    cpu = torch.device("cpu")
    depthwise, dense = torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.Conv2d(4, 4, 3)
    assert training_precision("auto", depthwise, cpu) == "fp32"
    assert training_precision("bf16", depthwise, cpu) == "bf16"
    assert training_precision("auto", dense, cpu) in ("fp32", "bf16")
