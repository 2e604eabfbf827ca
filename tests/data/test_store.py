import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.errors import DataError


@pytest.fixture
def store_path(declare, tmp_path):
    path = tmp_path / "shapes.h5"
    prepare("shapes", declare(source="shapes", train=90, test=30), tmp_path, path)
    return path


def edited(path, edit):
    with h5py.File(path, "r+", locking=False) as file:
        edit(file)
    return path


def test_reader_gives_what_was_prepared(store_path):
    with ImageStore.open(store_path) as store:
        assert store.name == "shapes"
        assert store.class_names == ("ellipse", "rectangle", "triangle")
        assert store.image_shape == (28, 28, 1)
        assert store.n_images == 120
        assert (store.labels.dtype, store.split.dtype, store.group.dtype) == (np.int64, np.uint8, np.int32)
        assert store.declaration["train"] == 90
        assert store.created_by["h5py"] == h5py.__version__
        assert store.skipped == {}
        assert store.sources(np.array([0, 119])) == ["train:0", "test:29"]
        store.verify()


def test_indices_are_ascending_and_complete(store_path):
    with ImageStore.open(store_path) as store:
        parts = [store.indices(part) for part in ("train", "validation", "test")]
        assert [len(part) for part in parts] == [81, 9, 30]
        assert np.array_equal(store.indices("train", "validation"), np.arange(90))
        assert np.array_equal(store.indices("train", "validation", "test"), np.arange(120))
        with pytest.raises(DataError, match="no part"):
            store.indices("training")


@pytest.mark.parametrize("indices", [[], [0], [119, 0, 7, 7, 3], list(range(120)), list(range(0, 120, 11))])
def test_images_come_in_the_order_asked_for(declare, tmp_path, monkeypatch, indices):
    monkeypatch.setattr("pydyn.data.store.CHUNK_BYTES", 8 * 28 * 28)
    prepare("shapes", declare(source="shapes", train=90, test=30), tmp_path, tmp_path / "x.h5")
    with ImageStore.open(tmp_path / "x.h5") as store:
        indices = np.array(indices, dtype=np.int64)
        everything = store.images()
        assert everything.shape == (120, 28, 28, 1)
        assert np.array_equal(store.images(indices), everything[indices])


@pytest.mark.parametrize("index", [-1, 120])
def test_rows_that_do_not_exist_are_refused(store_path, index):
    with ImageStore.open(store_path) as store, pytest.raises(IndexError, match="rows 0 to 119"):
        store.images(np.array([index]))


def test_mean_and_std_are_of_the_train_part(store_path):
    with ImageStore.open(store_path) as store:
        images = store.images(store.indices("train")) / 255
        assert store.mean == pytest.approx(images.mean((0, 1, 2)), rel=1e-12)
        assert store.std == pytest.approx(images.std((0, 1, 2)), rel=1e-12)


def test_chunks_are_at_most_a_mebibyte_of_whole_images(store_path):
    with h5py.File(store_path) as file:
        assert file["images"].chunks[1:] == (28, 28, 1)
        assert np.prod(file["images"].chunks) <= 2**20


READER = """
import sys
from pydyn.data.store import ImageStore
with ImageStore.open(sys.argv[1]) as store:
    print(store.digest, flush=True)
    sys.stdin.read()
    store.verify()
"""


def test_many_processes_read_at_once(store_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READER, store_path], **pipes) for _ in range(2)]
    with ImageStore.open(store_path) as store:
        # Each has opened it before any goes on.
        assert [reader.stdout.readline().strip() for reader in readers] == [store.digest] * 2
    for reader in readers:
        reader.communicate(timeout=60)
        assert reader.returncode == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_stores_are_refused(store_path, share):
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"shapes\.h5 is .*; delete it and prepare the data set again"):
        ImageStore.open(store_path)


def test_missing_stores_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"x\.h5 does not exist; prepare the data set first"):
        ImageStore.open(tmp_path / "x.h5")


def test_what_is_no_hdf5_is_refused(store_path):
    store_path.write_text("no store" * 1000)
    with pytest.raises(DataError, match=r"shapes\.h5 is no HDF5 file"):
        ImageStore.open(store_path)


def test_foreign_hdf5_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(DataError, match=r"x\.h5 is an HDF5 file but no image store"):
        ImageStore.open(tmp_path / "x.h5")


def replace(name, change):
    def edit(file):
        values = change(file[name][:])
        del file[name]
        file[name] = values

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda file: file.attrs.update(schema_version=2), "has schema 2, this pydyn reads 1; upgrade pydyn"),
        (lambda file: file.attrs.update(complete=False), "is incomplete"),
        (lambda file: file.attrs.pop("complete"), "is incomplete"),
        (lambda file: file.attrs.pop("digest"), "cannot be read"),
        (lambda file: file.attrs.update(declaration="{"), "cannot be read"),
        (lambda file: file.attrs.update(declaration="[" * 5000), "cannot be read"),
        (lambda file: file.pop("labels") and file.update(labels=h5py.SoftLink("/labels")), "cannot be read"),
        (lambda file: file.attrs.update(mean=[0.1, 0.2]), "mean or std that does not fit"),
        (lambda file: file.pop("images"), "cannot be read"),
        (lambda file: file.pop("source"), "cannot be read"),
        (replace("images", lambda images: images[..., 0]), r"images of shape \(120, 28, 28\)"),
        (replace("labels", lambda labels: labels[:-1]), "holds 120 images but"),
        (replace("labels", lambda labels: labels + 1), "labels that are not int64 from 0 to 2"),
        (replace("labels", lambda labels: labels - 1), "labels that are not int64 from 0 to 2"),
        (replace("labels", lambda labels: labels.astype(float)), "labels that are not int64"),
        (replace("split", lambda split: split + 1), "split that are not uint8 from 0 to 2"),
        (replace("group", lambda group: group + 1), "group that are not int32 from -1 to -1"),
    ],
)
def test_stores_at_odds_with_themselves_are_refused(store_path, edit, message):
    with pytest.raises(DataError, match=message) as caught:
        ImageStore.open(edited(store_path, edit))
    assert str(store_path) in str(caught.value)


@pytest.mark.parametrize("name", ["source", "skipped", "skipped_reason"])
def test_names_that_cannot_be_read_are_refused_when_they_are(store_path, name):
    changed = edited(store_path, replace(name, lambda names: np.arange(len(names))))
    message = rf"image store {changed} cannot be read \(.*prepare the data set again"
    with ImageStore.open(changed) as store, pytest.raises(DataError, match=message):
        store.sources() if name == "source" else store.skipped


@pytest.mark.parametrize(
    "edit",
    [
        lambda file: file["images"].write_direct(np.full(28 * 28, 7, np.uint8).reshape(1, 28, 28, 1), None, np.s_[5:6]),
        replace("labels", lambda labels: labels[::-1].copy()),
        replace("split", lambda split: split[::-1].copy()),
        lambda file: file.attrs.update(mean=[0.5]),
        lambda file: file.attrs.update(std=[0.5]),
        replace("class_names", lambda names: names[::-1].copy()),
    ],
    ids=["images", "labels", "split", "mean", "std", "class names"],
)
def test_verification_finds_what_changed(store_path, edit):
    changed = edited(store_path, edit)
    with ImageStore.open(changed) as store, pytest.raises(DataError, match="differs from its digest"):
        store.verify()


@pytest.mark.parametrize("name", ["group", "group_names"])
def test_verification_finds_other_groups(prepared, make_folder, name):
    make_folder({"a": 8, "b": 8})
    split = {"method": "group", "test": 0.25, "validation": 0.25, "group": {"pattern": "(?P<group>.+)"}}
    store = prepared(source="folder", path="pictures", split=split)
    store.close()
    changed = edited(store.path, replace(name, lambda values: values[::-1].copy()))
    with ImageStore.open(changed) as store, pytest.raises(DataError, match="differs from its digest"):
        store.verify()


def test_a_copy_is_as_good(store_path, tmp_path):
    with ImageStore.open(shutil.copy(store_path, tmp_path / "copy.h5")) as store:
        store.verify()
