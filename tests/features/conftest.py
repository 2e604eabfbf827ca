"""A store of grouped images and a small network with batch normalisation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pydyn.data.store import ImageStore, StoreWriter

CLASSES = ["benign", "malignant", "none of these"]
N_IMAGES = 90


@pytest.fixture(scope="session")
def store_path(tmp_path_factory) -> Path:
    """90 grey images of 40 x 36, three classes in turn, 30 groups of one class each."""
    path = tmp_path_factory.mktemp("images") / "grouped.h5"
    draw = np.random.default_rng(0)
    labels = np.arange(N_IMAGES) % 3
    group = labels + 3 * (np.arange(N_IMAGES) // 9)
    declaration = {"source": "folder", "split": {"method": "group", "test": 0.3, "group": {"pattern": "(?P<group>x)"}}}
    with StoreWriter(path, N_IMAGES, (40, 36, 1)) as writer:
        writer.add(draw.integers(0, 256, (N_IMAGES, 40, 36, 1), dtype=np.uint8))
        writer.finish(
            {"dataset": "grouped", "declaration": json.dumps(declaration), "created_by": "{}"},
            {
                "labels": labels,
                "split": (np.arange(N_IMAGES) // 9 % 3).astype(np.uint8),
                "group": group,
                "mean": np.array([0.5]),
                "std": np.array([0.25]),
            },
            {
                "class_names": CLASSES,
                "group_names": [f"patient-{i}" for i in range(30)],
                "source": [f"{CLASSES[label]}/{i}.png" for i, label in enumerate(labels)],
                "skipped": [],
                "skipped_reason": [],
            },
        )
    return path


@pytest.fixture
def store(store_path):
    with ImageStore.open(store_path) as opened:
        yield opened


@pytest.fixture
def network() -> nn.Module:
    """Two convolutions with batch normalisation, dropout, pooled: (B, 3, S, S) to (B, 8)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, 2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(4, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
