"""Features against a plain forward pass; shards, their store, and what happens when files are lost or spoilt."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import torch

from pydyn.data.inputs import BackboneInputs, resized
from pydyn.errors import DataError
from pydyn.features.extraction import extract, runner
from pydyn.features.store import FeatureStore, join, shard_rows
from pydyn.models.backbones import Preprocessing
from pydyn.models.settings import ExtractionSetting

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(32, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture
def extracted(store, network, tmp_path):
    """Extract into shards and join them."""

    def run(n_shards=3, dtype="float32", folder=tmp_path, scale=1.0):
        inputs = BackboneInputs(store, PREPROCESSING, CPU)
        forward = runner(network, CPU, "fp32")
        paths = []
        for shard in range(n_shards):
            paths.append(folder / f"shard-{shard}-of-{n_shards}.h5")
            setting = ExtractionSetting(batch_size=7, dtype=dtype, shards=n_shards)
            rows = shard_rows(store.n_images, shard, n_shards)
            scaled = lambda images: forward(images) * scale  # noqa: E731
            extract(inputs, rows, scaled, 8, paths[-1], setting, {"backbone": "small"}, "ESP", "here", "test")
        join(paths[::-1], store, folder / "features.h5")
        return folder / "features.h5"

    return run


def test_features_are_those_of_a_plain_forward_pass(extracted, store, network):
    from torchvision.transforms import v2

    plain = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((32, 32), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Grayscale(3),
            v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
        ]
    )
    images = torch.stack([plain(image) for image in store.images()])
    with torch.no_grad():
        expected = network.eval()(images)
    with FeatureStore.open(extracted()) as features:
        features.verify()
        torch.testing.assert_close(torch.from_numpy(features.features()), expected, rtol=1e-5, atol=1e-5)
        assert features.labels.tolist() == store.labels.tolist()
        assert features.group.tolist() == store.group.tolist()
        assert features.split.tolist() == store.split.tolist()
        assert features.sources == store.sources()
        assert (features.class_names, features.group_names) == (store.class_names, store.group_names)
        assert features.description == {"backbone": "small"}
        assert [(part["images"], part["place"]) for part in features.measured] == [(30, "here")] * 3


def test_any_number_of_shards_holds_the_same_features(extracted, tmp_path):
    found = []
    for n_shards in (1, 2, 5):
        folder = tmp_path / str(n_shards)
        folder.mkdir()
        with FeatureStore.open(extracted(n_shards, folder=folder)) as features:
            found.append(features.features())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)


def test_half_precision_halves_the_file_and_stays_finite(extracted):
    with FeatureStore.open(extracted(dtype="float16", scale=1e6)) as features:
        values = features.features()
        assert values.dtype == np.float16
        assert np.isfinite(values).all()
        assert np.abs(values.astype(np.float32)).max() == 65504


def test_the_store_can_be_moved_with_its_shards_and_read_from_anywhere(extracted, tmp_path, monkeypatch):
    path = extracted()
    with FeatureStore.open(path) as features:
        expected = features.features()
    moved = tmp_path / "elsewhere" / "deep"
    shutil.copytree(path.parent, moved)
    for file in path.parent.glob("*.h5"):
        file.unlink()
    monkeypatch.chdir(os.sep)
    with FeatureStore.open(moved / path.name) as features:
        assert np.array_equal(features.features(), expected)


def test_shards_are_read_not_copied(extracted):
    path = extracted(3)
    assert path.stat().st_size < 40_000
    with h5py.File(path) as file:
        assert file["features"].is_virtual


@pytest.mark.parametrize("n_shards", [1, 3, 7, 100])
def test_shards_partition_the_images(n_shards):
    rows = [shard_rows(90, shard, n_shards) for shard in range(n_shards)]
    assert [row for part in rows for row in part] == list(range(90))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_is_not_is_refused(shard):
    with pytest.raises(ValueError, match=f"shard = {shard} must be from 0 to 2"):
        shard_rows(90, shard, 3)


def test_lost_spoilt_and_foreign_files_are_named(extracted, tmp_path, store):
    path = extracted()
    shard = tmp_path / "shard-1-of-3.h5"
    whole = shard.read_bytes()

    shard.unlink()
    with pytest.raises(DataError, match=r"shard-1-of-3\.h5 is missing"):
        FeatureStore.open(path)
    with pytest.raises(DataError, match=r"the shards hold rows 0 to 29, 60 to 89 of 90 images"):
        join([tmp_path / "shard-0-of-3.h5", tmp_path / "shard-2-of-3.h5"], store, path)

    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"shard-1-of-3\.h5 cannot be read"):
        FeatureStore.open(path)

    shard.write_bytes(whole)
    with h5py.File(shard, "r+") as file:
        file["features"][3, 4] += 1
    with FeatureStore.open(path) as features, pytest.raises(DataError, match="differs from its digest"):
        features.verify()

    with h5py.File(shard, "r+") as file:
        file.move("features", "elsewhere")
        file["features"] = h5py.SoftLink("/features")
    with pytest.raises(DataError, match=r"shard-1-of-3\.h5 cannot be read"):
        FeatureStore.open(path)

    with h5py.File(shard, "r+") as file:
        del file["features"]
        file.move("elsewhere", "features")
        file.attrs["digest"] = "0" * 64
    with pytest.raises(DataError, match=r"shard-1-of-3\.h5 was written anew"):
        FeatureStore.open(path)

    with pytest.raises(DataError, match="no feature store of pydyn"):
        FeatureStore.open(shard)
    with pytest.raises(DataError, match=r"nothing\.h5 is missing; extract the features first"):
        FeatureStore.open(tmp_path / "nothing.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 3
    with pytest.raises(DataError, match=r"has schema 3, this pydyn reads 2; upgrade pydyn"):
        FeatureStore.open(path)


def test_shards_of_other_features_are_not_joined(extracted, tmp_path, store):
    extracted(2)
    with h5py.File(tmp_path / "shard-1-of-2.h5", "r+") as file:
        file.attrs["description"] = json.dumps({"backbone": "another"})
    with pytest.raises(DataError, match="hold different features"):
        join([tmp_path / f"shard-{i}-of-2.h5" for i in range(2)], store, tmp_path / "features.h5")


def test_a_failed_extraction_leaves_no_shard(store, network, tmp_path):
    def fails(images):
        raise RuntimeError("in the middle")

    inputs = BackboneInputs(store, PREPROCESSING, CPU)
    with pytest.raises(RuntimeError):
        extract(inputs, range(10), fails, 8, tmp_path / "shard.h5", ExtractionSetting(), {}, "ESP", "here", "test")
    assert list(tmp_path.iterdir()) == []


def test_images_are_resized_as_torchvision_does_and_grey_becomes_three_channels(store):
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    images = store.images(np.arange(4))
    ours = resized(images, Preprocessing(48, "bicubic", (0,) * 3, (1,) * 3), CPU)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = transforms.resize(planes, [48, 48], InterpolationMode.BICUBIC, antialias=True)
    assert ours.shape == (4, 48, 48, 3)
    assert all(torch.equal(ours[..., channel], expected[:, 0]) for channel in range(3))


def test_images_are_moved_by_up_to_an_eighth_over_black(store):
    inputs = BackboneInputs(store, Preprocessing(64, "bilinear", (0.0,) * 3, (1.0,) * 3), CPU)
    moved = inputs.augmented_batch(np.arange(store.n_images), 0)
    assert (moved == 0).all(3).all(1).sum(1).max() == (moved == 0).all(2).all(1).sum(1).max() == 64 / 8


def test_augmentation_depends_on_seed_and_epoch_alone(store):
    inputs = BackboneInputs(store, PREPROCESSING, CPU)
    rows = np.array([5, 3, 8])
    one = inputs.augmented_batch(rows, 1)
    assert torch.equal(one, inputs.augmented_batch(rows, 1))
    assert not torch.equal(one, inputs.augmented_batch(rows, 2))
    assert not torch.equal(one, inputs.batch(rows))
