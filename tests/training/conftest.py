"""A small store and Runs on it."""

import contextlib
from pathlib import Path

import pytest
import torch

from pydyn.config.datasets import ShapesDataset
from pydyn.data.prepare import prepare
from pydyn.device import open_device
from pydyn.selection.controls import Full
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.run import Run

pytest.register_assert_rewrite("tests.training.small_heads")


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    prepare("tiny", ShapesDataset(source="shapes", train=90, test=30, image_size=16), Path(), path)
    return path


@pytest.fixture(scope="session")
def cpu():
    return open_device("cpu", 1)


@pytest.fixture
def other_defaults():
    """A context in which what is made without a device or a dtype is not where, or what, it is elsewhere."""

    @contextlib.contextmanager
    def context():
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):  # in the place of a GPU
                yield
        finally:
            torch.set_default_dtype(torch.float32)

    return context


@pytest.fixture
def make_run():
    def make(**changes) -> Run:
        values = {
            "study": "dynamic",
            "dataset": "tiny",
            "protocol": "paper",
            "model": "cnn_a",
            "batch_norm": False,
            "strategy": Dynamic(scheme="best-set", alpha=0.5, beta=0.5, delta=1.0),
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "precision": "auto",
            "augmentation": "none",
            "seed": 0,
        }
        return Run(**{**values, **changes})

    return make


@pytest.fixture
def full():
    return Full()
