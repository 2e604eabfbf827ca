"""Trained Runs and the models that are exported from them."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pydyn.config.datasets import ShapesDataset
from pydyn.config.main import overlay, parse
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.deploy.export import export
from pydyn.device import open_device
from pydyn.features.jobs import adapt_backbone, extract_shard
from pydyn.features.store import ADAPTED, FEATURES, join_shards, shard_name
from pydyn.models.backbones import build_backbone
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.studies.registry import runs as runs_of
from pydyn.training.frugal import execute_frugal

CPU = torch.device("cpu")
CONFIG = parse(
    {
        "studies": ["frugal"],
        "datasets": {"tiny": {"source": "shapes", "train": 60, "test": 30, "image_size": 40}},
        "frugal": {
            "datasets": ["tiny"],
            "backbones": [{"name": "efficientnet_lite0", "input_size": 64}],
            "replicates": 1,
            "adaptation": {"max_batches": 2, "batch_size": 16},
            "heads": {"epochs": 30, "hidden": 8, "batch_size": 16},
            "fine_tuning": {"learning_rates": [0.001], "batch_size": 16, "epochs": 1},
        },
    }
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folders of a Run of heads and of one of fine-tuning, and of their test images as files."""
    folder = tmp_path_factory.mktemp("deploy")
    results, store_path = folder / "results", folder / "results" / "data" / "tiny.h5"
    prepare("tiny", ShapesDataset(source="shapes", train=60, test=30, image_size=40), Path(), store_path)
    device = open_device("cpu", 1)
    runs = runs_of(CONFIG, "frugal")
    head = next(
        run for run in runs if isinstance(run, HeadRun) and run.adapted and run.weighted and run.settings[0].hidden
    )
    tuned = next(run for run in runs if isinstance(run, FineTuningRun))
    directory = head.features.directory(results)
    directory.mkdir(parents=True)
    adapt_backbone(head.features, store_path, directory / ADAPTED, device, "ESP", lambda line: None)
    extract_shard(head.features, store_path, directory / shard_name(0, 1), 0, 1, device, "ESP")
    join_shards(store_path, directory / FEATURES, 1)
    execute_frugal([head, tuned], results, store_path, device, lambda line: None)
    with ImageStore.open(store_path) as store:
        rows = store.indices("test")
        for image, name in zip(store.images(rows), store.sources(rows), strict=True):
            path = folder / "images" / f"{name.replace(':', '-')}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return {"heads": head.directory(results), "fine-tuning": tuned.directory(results), "images": folder / "images"}


@pytest.fixture
def plain(trained, tmp_path):
    """Results with a Run of heads on features of a backbone as a file of weights has it, and that file."""
    results, file = tmp_path / "results", tmp_path / "weights.safetensors"
    network, _ = build_backbone("efficientnet_lite0", seed=1)
    save_file(network.state_dict(), file)
    backbone = {"name": "efficientnet_lite0", "weights": str(file), "input_size": 64}
    raw = overlay(CONFIG.model_dump(mode="json"), {"frugal": {"backbones": [backbone]}})
    head = next(run for run in runs_of(parse(raw), "frugal") if isinstance(run, HeadRun) and not run.adapted)
    (results / "data").mkdir(parents=True)
    shutil.copy(trained["heads"].parents[6] / "data" / "tiny.h5", results / "data")
    extract(head, results)
    execute_frugal([head], results, results / "data" / "tiny.h5", open_device("cpu", 1), lambda line: None)
    return head, results, file


def extract(head, results):
    directory, store = head.features.directory(results), results / "data" / "tiny.h5"
    directory.mkdir(parents=True, exist_ok=True)
    extract_shard(head.features, store, directory / shard_name(0, 1), 0, 1, open_device("cpu", 1), "ESP")
    join_shards(store, directory / FEATURES, 1)


@pytest.fixture(scope="session")
def models(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in ("heads", "fine-tuning"):
        export(trained[kind], folder / kind, onnx=False)
    return folder
