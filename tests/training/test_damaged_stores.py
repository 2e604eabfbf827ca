"""A store whose bytes changed on the disk is refused by everything that reads its images."""

import shutil

import h5py
import pytest

from pydyn.errors import DataError
from pydyn.features.jobs import adapt_backbone, extract_shard
from pydyn.report.results import read_facts
from pydyn.studies.frugal import feature_sets
from pydyn.training.execute import execute
from pydyn.training.frugal import execute_frugal
from pydyn.training.shapes import execute_shapes
from tests.training.small_frugal import CONFIG

FEATURES = next(found for found in feature_sets(CONFIG).values() if found.adaptation)
READERS = {
    "networks": lambda results, store, device: execute([], results, store, device, print),
    "heads and fine-tuning": lambda results, store, device: execute_frugal([], results, store, device, print),
    "populations": lambda results, store, device: execute_shapes([], results, store, device, print),
    "adaptation": lambda results, store, device: adapt_backbone(FEATURES, store, results / "a", device, "ESP", print),
    "extraction": lambda results, store, device: extract_shard(FEATURES, store, results / "s", 0, 1, device, "ESP"),
    "report": lambda results, store, device: read_facts("tiny", results),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_store_that_changed_on_the_disk_is_refused(tmp_path, store, cpu, read):
    damaged = tmp_path / "data" / "tiny.h5"
    damaged.parent.mkdir()
    shutil.copy(store, damaged)
    with h5py.File(damaged, "r+") as file:
        file["images"][0, 0, 0, 0] ^= 1
    with pytest.raises(DataError, match="differs from its digest"):
        read(tmp_path, damaged, cpu)
