"""Heads on features, from an image store to summaries: with a small network and random weights."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pydyn.config.datasets import ShapesDataset
from pydyn.data.inputs import BackboneInputs
from pydyn.data.parts import Parts
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.device import open_device
from pydyn.errors import DataError, RunError
from pydyn.features.jobs import adapt_backbone, extract_shard, load_adapted, place_of
from pydyn.features.store import ADAPTED, FEATURES, FeatureStore, join_shards, shard_name
from pydyn.models.backbones import load_backbone
from pydyn.models.heads import from_weights
from pydyn.studies.frugal import feature_sets
from pydyn.studies.frugal_runs import FineTuningRun
from pydyn.training.frugal import execute_frugal
from pydyn.training.frugal_summary import read_frugal_summary
from tests.training.small_frugal import CONFIG, RAW, chosen, train


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """Image store and features; nothing is trained yet."""
    folder = tmp_path_factory.mktemp("frugal")
    store = folder / "data" / "tiny.h5"
    prepare("tiny", ShapesDataset(**RAW["datasets"]["tiny"]), Path(), store)
    device = open_device("cpu", 1)
    for features in feature_sets(CONFIG).values():
        directory = features.directory(folder)
        directory.mkdir(parents=True)
        if features.adaptation:
            adapt_backbone(features, store, directory / ADAPTED, device, "ESP", lambda line: None)
        for shard in range(2):
            extract_shard(features, store, directory / shard_name(shard, 2), shard, 2, device, "ESP")
        join_shards(store, directory / FEATURES, 2)
    return folder


@pytest.fixture
def own_results(results, tmp_path):
    """The same features, in a folder to train in."""
    (tmp_path / "frugal").mkdir()
    (tmp_path / "data").symlink_to(results / "data")
    (tmp_path / "frugal" / "features").symlink_to(results / "frugal" / "features")
    return tmp_path


def test_adapted_features_are_of_the_adapted_network(results):
    found = list(feature_sets(CONFIG).values())
    values = {}
    with ImageStore.open(results / "data" / "tiny.h5") as store:
        for features in found:
            backbone, adapted = load_adapted(features, features.directory(results), store.digest)
            inputs = BackboneInputs(store, backbone.preprocessing, torch.device("cpu"))
            with torch.no_grad():
                expected = backbone.network(inputs.batch(np.arange(store.n_images)))
            with FeatureStore.open(features.directory(results) / FEATURES) as opened:
                values[features.id] = opened.features()
                assert opened.description["backbone"]["digest"] == load_backbone(features.backbone).digest
                assert (adapted is None) == (opened.description["adaptation"] is None)
            np.testing.assert_allclose(values[features.id], expected, rtol=2e-2, atol=2e-2)
    plain, first, second = values.values()
    assert not np.allclose(plain, first)
    assert not np.array_equal(first, second)  # other training images, other statistics


def test_a_backbone_is_adapted_to_training_images_alone_in_random_order(results, tmp_path, monkeypatch):
    seen, batch = [], BackboneInputs.batch
    monkeypatch.setattr(BackboneInputs, "batch", lambda self, rows: seen.append(rows.tolist()) or batch(self, rows))
    store = results / "data" / "tiny.h5"
    for features in (found for found in feature_sets(CONFIG).values() if found.adaptation):
        seen.clear()
        adapt_backbone(features, store, tmp_path / ADAPTED, open_device("cpu", 1), "ESP", lambda line: None)
        with ImageStore.open(store) as opened:
            train = set(Parts.of(opened, features.splits, features.seed).train.tolist())
        first, second = seen
        assert len(set(first) | set(second)) == 32 and train.issuperset([*first, *second])
        assert first != sorted(first)


@pytest.mark.parametrize("kind", ["heads", "fine-tuning"])
def test_class_weights_reach_the_training(own_results, kind):
    (run,) = chosen(kind, 1)
    if isinstance(run, FineTuningRun):
        run = replace(run, fine_tuning=replace(run.fine_tuning, learning_rates=(0.001,), epochs=1))
    found = []
    for weighted in (True, False):
        train([replace(run, class_weights=weighted)], own_results)
        found.append(load_file(run.directory(own_results) / "weights.safetensors"))
    assert any(not torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_features_that_changed_on_the_disk_are_refused(own_results, results):
    (run,) = chosen("heads", 1)
    (own_results / "frugal" / "features").unlink()
    shutil.copytree(results / "frugal" / "features", own_results / "frugal" / "features")
    with h5py.File(run.features.directory(own_results) / shard_name(1, 2), "r+") as file:
        file["features"][3, 4] += 1
    with pytest.raises(DataError, match="differs from its digest"):
        train([run], own_results)


def test_heads_leave_what_they_were_and_what_they_predict(own_results):
    runs = chosen("heads")
    lines = train(runs, own_results)
    assert sum("done, test accuracy" in line for line in lines) == len(runs) == 16
    for run in runs:
        directory = run.directory(own_results)
        summary = read_frugal_summary(directory / "summary.json")
        assert summary.run == run
        assert set(summary.costs) == {"extraction", "training"} | ({"adaptation"} if run.adapted else set())
        assert (summary.n_train, summary.n_validation, summary.n_test) == (43, 5, 24)
        assert (summary.validation.n_images, summary.test.n_images) == (5, 24)
        rows = list(csv.DictReader((directory / "predictions.csv").open()))
        right = sum(row["class"] == row["predicted"] for row in rows)
        assert right / len(rows) == pytest.approx(summary.test.accuracy)
        # The prediction by hand: the weights on the features.
        with FeatureStore.open(run.features.directory(own_results) / FEATURES) as features:
            values = torch.from_numpy(features.features()).float()
            sources = features.sources
        with torch.no_grad():
            logits = from_weights(load_file(directory / "weights.safetensors"))(values)
        expected = torch.softmax(logits.double(), 1).numpy()
        for row in rows:
            by_hand = expected[sources.index(row["image"])]
            shown = [float(row[f"p({name})"]) for name in ("ellipse", "rectangle", "triangle")]
            assert shown == pytest.approx(by_hand.tolist(), abs=1e-5)


def test_complete_runs_are_left_alone_and_extraction_counts_for_training_and_validation_images(own_results):
    (run,) = chosen("heads", 1)
    train([run], own_results)
    path = run.directory(own_results) / "summary.json"
    before = path.read_bytes()
    assert [line for line in train([run], own_results) if "complete already" in line]
    assert path.read_bytes() == before
    with FeatureStore.open(run.features.directory(own_results) / FEATURES) as features:
        whole = sum(part["reading"]["seconds"] for part in features.measured)
    assert read_frugal_summary(path).costs["extraction"].seconds == pytest.approx(whole * 48 / 72)


def test_stages_that_ran_in_another_place_are_told(own_results):
    here, (run, other) = open_device("cpu", 1), [run for run in chosen("heads") if run.adapted][:2]
    train([run], own_results)
    execute_frugal([other], own_results, own_results / "data" / "tiny.h5", replace(here, name="another"), print)
    found = [read_frugal_summary(each.directory(own_results) / "summary.json") for each in (run, other)]
    assert [(summary.device, summary.elsewhere) for summary in found] == [
        (here.name, []),
        ("another", [place_of(here)]),
    ]


def test_an_adaptation_that_tells_no_place_can_be_read(results, tmp_path):
    features = next(found for found in feature_sets(CONFIG).values() if found.adaptation)
    with safe_open(features.directory(results) / ADAPTED, "pt") as file:
        origin = json.loads(file.metadata()["pydyn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del origin["place"]
    save_file(tensors, tmp_path / ADAPTED, metadata={"pydyn": json.dumps(origin)})
    with ImageStore.open(results / "data" / "tiny.h5") as store:
        _, adapted = load_adapted(features, tmp_path, store.digest)
    assert adapted is not None and adapted.place == "an unknown place"


def test_features_of_other_images_or_settings_are_refused(own_results, tmp_path):
    (run,) = chosen("heads", 1)
    other = replace(run, features=replace(run.features, batch_size=7))
    with pytest.raises(DataError, match="is of another backbone or setting; delete its folder and run again"):
        train([other], own_results)
    elsewhere = tmp_path / "elsewhere" / "tiny.h5"
    prepare("tiny", ShapesDataset(**{**RAW["datasets"]["tiny"], "seed": 1}), Path(), elsewhere)
    with pytest.raises(DataError, match="is of other images"):
        execute_frugal([run], own_results, elsewhere, open_device("cpu", 1), print)


def test_the_same_heads_twice(own_results, tmp_path):
    runs = chosen("heads", 4)
    train(runs, own_results)
    first = {run: (run.directory(own_results) / "weights.safetensors").read_bytes() for run in runs}
    (own_results / "frugal" / "runs").rename(tmp_path / "aside")
    train(runs, own_results)
    assert {run: (run.directory(own_results) / "weights.safetensors").read_bytes() for run in runs} == first


def test_a_folder_of_something_else_is_not_taken_for_a_summary(own_results):
    (run,) = chosen("heads", 1)
    directory = run.directory(own_results)
    directory.mkdir(parents=True)
    (directory / "run.json").write_text('{"fingerprint": "no"}')
    with pytest.raises(RunError, match="not a Run's description"):
        train([run], own_results)


def test_replicates_divide_the_images_anew(results):
    with ImageStore.open(results / "data" / "tiny.h5") as store:
        first, second = (Parts.of(store, "declared", seed) for seed in (0, 1))
        assert np.array_equal(first.test, second.test)  # given
        assert not np.array_equal(first.validation, second.validation)
        for parts in (first, second):
            together = np.concatenate([parts.train, parts.validation, parts.test])
            assert sorted(together.tolist()) == list(range(store.n_images))


@pytest.mark.parametrize("kind", ["heads", "fine-tuning"])
def test_where_training_comes_to_nothing_the_rates_are_named(own_results, kind):
    (run,) = chosen(kind, 1)
    if isinstance(run, FineTuningRun):
        wild = replace(run, fine_tuning=replace(run.fine_tuning, learning_rates=(1e30,), epochs=1))
    else:
        wild = replace(run, settings=tuple(replace(setting, learning_rate=1e30) for setting in run.settings))
    with pytest.raises(RunError, match=r"validation loss was never a finite number; lower frugal\..*learning_rates"):
        train([wild], own_results)
    assert not (wild.directory(own_results) / "summary.json").exists()
    assert train([run], own_results)[-1].startswith(f"{run.id}: done")
