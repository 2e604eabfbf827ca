"""Small data sets of generated images, in folders and archives."""

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from pydyn.config.datasets import AnyDataset
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.errors import PydynError

STRATIFIED = {"method": "stratified", "test": 0.25, "validation": 0.25}

Declare = Callable[..., AnyDataset]
MakeFolder = Callable[..., Path]
Pack = Callable[..., Path]


@pytest.fixture
def declare() -> Declare:
    """A data set from keyword arguments, as the configuration would give it."""

    def declare(**section: Any) -> AnyDataset:
        if section["source"] in ("folder", "archive"):
            section.setdefault("split", STRATIFIED)
        return TypeAdapter(AnyDataset).validate_json(json.dumps(section))

    return declare


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write `counts[class]` random images (h, w) below `tmp_path / name` and give that folder."""

    def make(counts: dict[str, int], name: str = "pictures", size: tuple[int, int] = (9, 12)) -> Path:
        generator = np.random.default_rng(0)
        for class_name, count in counts.items():
            folder = tmp_path / name / class_name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:03}.png")
        return tmp_path / name

    return make


@pytest.fixture
def pack() -> Pack:
    """Pack a folder, itself included, into an archive beside it and give the archive."""

    def pack(folder: Path, suffix: str = ".tar") -> Path:
        path = folder.with_name(folder.name + suffix)
        if suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(folder.rglob("*")):
                    archive.write(file, file.relative_to(folder.parent))
            return path
        compression = {"tgz": "gz", "txz": "xz", "tbz2": "bz2"}.get(suffix[1:], suffix.rpartition(".")[2])
        with tarfile.open(path, f"w:{compression}" if compression != "tar" else "w") as archive:
            archive.add(folder, folder.name)
        return path

    return pack


@pytest.fixture
def prepared(declare, tmp_path):
    """Prepare a declared data set and give the opened store."""
    stores = []

    def prepared(output="out/store.h5", **section):
        prepare("mine", declare(**section), tmp_path, tmp_path / output)
        stores.append(ImageStore.open(tmp_path / output))
        return stores[-1]

    yield prepared
    for store in stores:
        store.close()


@pytest.fixture
def refused(declare, tmp_path):
    """Prepare in vain, see that nothing is left behind, and give the message."""

    def refused(**section):
        output = tmp_path / "out" / "store.h5"
        with pytest.raises(PydynError) as caught:
            prepare("mine", declare(**section), tmp_path, output)
        assert not output.parent.exists() or not list(output.parent.iterdir())
        message = str(caught.value)
        assert message.startswith("data set 'mine'")
        return message

    return refused
