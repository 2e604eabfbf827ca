"""Whole archives of real images, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout")


@pytest.mark.parametrize(
    ("path", "shape", "counts", "column", "block"),
    [
        ("breakhis.tar", (224, 224, 3), [202, 637], "patient_group", None),
        ("brain-mri.tar", (256, 256, 1), [1426, 708, 930], "number", 64),
    ],
)
def test_grouped_archives(declare, tmp_path, path, shape, counts, column, block):
    group = {"manifest": "manifest.csv", "column": column, "block": block}
    dataset = declare(source="archive", path=path, split={"method": "group", "test": 0.3, "group": group})
    prepare("real", dataset, DATA, tmp_path / "real.h5")
    with ImageStore.open(tmp_path / "real.h5") as store:
        assert store.image_shape == shape
        assert np.bincount(store.labels).tolist() == counts
        held = [set(store.group[store.indices(part)]) for part in ("train", "validation", "test")]
        assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
        assert len(store.indices("test")) == pytest.approx(0.3 * store.n_images, rel=0.15)


def test_sub_types_of_tumours(declare, tmp_path):
    labels = {"pattern": "SOB_[BM]_(?P<label>[A-Z]+)"}
    dataset = declare(source="archive", path="breakhis.tar", labels=labels, image_size=32)
    prepare("real", dataset, DATA, tmp_path / "real.h5")
    with ImageStore.open(tmp_path / "real.h5") as store:
        counts = dict(zip(store.class_names, np.bincount(store.labels).tolist(), strict=True))
    assert counts == {"A": 16, "DC": 401, "F": 90, "LC": 18, "MC": 149, "PC": 69, "PT": 14, "TA": 82}
