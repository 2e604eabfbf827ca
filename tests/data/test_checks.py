import subprocess
import sys

import pytest

from pydyn.config.datasets import FolderDataset, Split
from pydyn.data.checks import check_source, known_pool, source_state
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.errors import DataError


def test_planning_imports_nothing_slow():
    code = (
        "import sys, pydyn.data.checks; print(*{'torch', 'torchvision', 'h5py', 'sklearn', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_pool_of_a_large_folder_is_counted(tmp_path, declare):
    for part in ("train", "test"):
        for class_index in range(10):
            folder = tmp_path / "x" / part / f"class{class_index}"
            folder.mkdir(parents=True)
            for index in range(500):
                (folder / f"{index}.jpg").touch()
    dataset = declare(source="folder", path="x", split={"method": "given"})
    check_source("x", dataset, tmp_path)
    assert known_pool("x", dataset, tmp_path) == 5000


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "folder", "path": "nowhere"}, "nowhere does not exist; put the folder"),
        ({"source": "folder", "path": "pictures.tar"}, r"is a file \(`source: archive` reads archives\)"),
        ({"source": "archive", "path": "nowhere.tar"}, r"nowhere\.tar does not exist; put the archive"),
        ({"source": "archive", "path": "pictures"}, r"is a folder \(`source: folder` reads folders\)"),
        ({"source": "archive", "path": "pictures/b/000.png"}, "no supported archive"),
        ({"source": "torchvision", "name": "MNIST", "download": False}, "torchvision does not exist; put MNIST there"),
        ({"source": "folder", "path": "pictures", "split": {"method": "given"}}, "no images in train/CLASS/"),
        (
            {
                "source": "folder",
                "path": "pictures",
                "split": {"method": "group", "test": 0.2, "group": {"manifest": "m.csv", "column": "p"}},
            },
            "has no file 'm.csv'",
        ),
    ],
)
def test_what_cannot_be_prepared_is_refused(tmp_path, declare, make_folder, pack, section, message):
    pack(make_folder({"a": 2, "b": 2}))
    with pytest.raises(DataError, match=message) as caught:
        check_source("mine", declare(**section), tmp_path)
    assert str(caught.value).startswith("data set 'mine'")
    assert "\n" not in str(caught.value)


def test_an_absolute_path_needs_no_data_root(declare, make_folder, tmp_path):
    folder = make_folder({"a": 2, "b": 2})
    check_source("mine", declare(source="folder", path=str(folder)), tmp_path / "elsewhere")


def test_links_to_folders_are_not_followed(tmp_path, declare, make_folder):
    folder = make_folder({"a": 2, "b": 2})
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "linked.png").symlink_to(folder / "b" / "000.png")
    dataset = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.4})
    assert known_pool("mine", dataset, tmp_path) == 3
    (folder / "c").symlink_to(folder / "a")
    with pytest.raises(DataError, match="no images in class folder 'c'"):
        check_source("mine", dataset, tmp_path)


@pytest.mark.parametrize("limit", [{}, {"train": 8}])
@pytest.mark.parametrize("test", [0.01, 0.3, 0.9])
def test_the_known_pool_is_the_prepared_one(tmp_path, declare, make_folder, test, limit):
    make_folder({"a": 8, "b": 13})
    split = {"method": "stratified", "test": test, "validation": 0.2}
    if test == 0.9:
        limit = {}
    dataset = declare(source="folder", path="pictures", split=split, limit=limit)
    prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    with ImageStore.open(tmp_path / "mine.h5") as store:
        assert known_pool("mine", dataset, tmp_path) == len(store.indices("train", "validation"))


@pytest.mark.parametrize(
    ("section", "pool"),
    [
        ({"source": "shapes", "train": 60}, 60),
        ({"source": "shapes", "train": 60, "limit": {"train": 30}}, 30),
        ({"source": "torchvision", "name": "CIFAR10"}, 50_000),
        ({"source": "archive", "path": "x.tar"}, None),
        ({"source": "archive", "path": "x.tar", "limit": {"train": 30}}, 30),
    ],
)
def test_pools_known_from_the_declaration(tmp_path, declare, section, pool):
    assert known_pool("mine", declare(**section), tmp_path) == pool


def test_the_state_of_a_folder_changes_with_its_files_and_with_nothing_else(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    dataset = FolderDataset(source="folder", path="set", split=Split(method="stratified", test=0.2))
    states = [source_state(dataset, tmp_path), source_state(dataset, tmp_path)]
    assert states[0] == states[1]
    (tmp_path / "set" / "b" / "2.png").write_bytes(b"x")
    states.append(source_state(dataset, tmp_path))
    (tmp_path / "set" / "b" / "2.png").write_bytes(b"xy")
    states.append(source_state(dataset, tmp_path))
    (tmp_path / "set" / "b" / "2.png").unlink()
    states.append(source_state(dataset, tmp_path))
    assert states[0] == states[4]
    assert len({states[0], states[2], states[3]}) == 3
