import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pydyn.config.datasets import ArchiveDataset, FolderDataset, Split
from pydyn.data.checks import arrange_folder, check_source, known_pool, source_state
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.errors import DataError, PydynError
from pydyn.studies.pools import Pool

GIVEN = {"method": "given"}


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
    assert known_pool("x", dataset, tmp_path) == Pool(paper=5000, holdout=4500, exact=True)


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


@pytest.mark.parametrize("parts", [("train", "test"), ("Train", "val", "test")])
def test_parts_are_not_taken_for_classes(tmp_path, declare, make_folder, pack, parts):
    folder = make_folder({f"{part}/{name}": 4 for part in parts for name in "ab"})
    archive = pack(folder)
    wrong = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.3})
    message = rf"its classes would be '{min(parts)}', .* which are names of parts; let `split\.method` be given"
    with pytest.raises(DataError, match=message):
        known_pool("mine", wrong, tmp_path)
    for source, path in (("folder", folder), ("archive", archive)):
        dataset = declare(source=source, path=path.name, split={"method": "stratified", "test": 0.3})
        with pytest.raises(DataError, match=message):
            prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    assert known_pool("mine", declare(source="folder", path="pictures", split=GIVEN), tmp_path)


def test_a_class_may_be_called_as_a_part_is(tmp_path, declare, make_folder):
    make_folder({"train": 6, "bus": 6})
    dataset = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.3})
    assert known_pool("mine", dataset, tmp_path).paper == 8


def test_an_absolute_path_needs_no_data_root(declare, make_folder, tmp_path):
    folder = make_folder({"a": 2, "b": 2})
    check_source("mine", declare(source="folder", path=str(folder)), tmp_path / "elsewhere")


def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path, declare, make_folder):
    folder = make_folder({"a": 2, "b": 3})
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "itself").symlink_to(folder / "a")
    (folder / "a" / "linked.png").symlink_to(folder / "b" / "000.png")
    dataset = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.4})
    assert known_pool("mine", dataset, tmp_path).paper == 4
    elsewhere = make_folder({"more": 5}, "elsewhere")
    (folder / "c").symlink_to(elsewhere / "more")
    (folder / "b" / "more").symlink_to(elsewhere)
    listing = arrange_folder("mine", dataset, tmp_path).listing
    assert listing.class_names == ("a", "b", "c")
    assert np.bincount(listing.labels).tolist() == [3, 8, 5]
    prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    with ImageStore.open(tmp_path / "mine.h5") as store:
        assert sorted(store.sources()) == sorted(listing.paths)
    state = source_state(dataset, tmp_path)
    next((elsewhere / "more").iterdir()).unlink()
    assert source_state(dataset, tmp_path) != state


def test_links_that_lead_nowhere_are_images_that_cannot_be_read(tmp_path, declare, make_folder):
    folder = make_folder({"a": 4, "b": 4})
    (folder / "a" / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "a" / "loop.png").symlink_to(folder / "a" / "loop.png")
    dataset = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.3})
    check_source("mine", dataset, tmp_path)
    state = source_state(dataset, tmp_path)
    with pytest.raises(DataError, match="2 of 10 images cannot be decoded") as caught:
        prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    assert all(name in str(caught.value) for name in ("a/lost.png", "a/loop.png"))
    Path(folder / "nowhere.png").write_bytes((folder / "a" / "000.png").read_bytes())
    assert source_state(dataset, tmp_path) != state


@pytest.mark.parametrize("place", ["c", "a/more"])
def test_a_link_to_a_folder_that_is_not_there_is_refused(tmp_path, declare, make_folder, place):
    """As where a disk is not mounted: a class, or a part of one, would be missing."""
    folder = make_folder({"a": 4, "b": 4})
    (folder / ".#draft").symlink_to(folder / "nowhere")
    dataset = declare(source="folder", path="pictures", split={"method": "stratified", "test": 0.3})
    check_source("mine", dataset, tmp_path)
    (folder / place).symlink_to(tmp_path / "disk")
    with pytest.raises(
        DataError, match=f"data set 'mine': .*pictures: '{place}' leads nowhere; make or mount what is linked to"
    ):
        check_source("mine", dataset, tmp_path)
    make_folder({"disk": 3}, ".")
    assert len(arrange_folder("mine", dataset, tmp_path).listing.paths) == 11


def assert_known(dataset, tmp_path, exact=True):
    """That what is known of a pool is what is prepared, or no less where it cannot be known exactly."""
    known = known_pool("mine", dataset, tmp_path)
    prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    with ImageStore.open(tmp_path / "mine.h5") as store:
        prepared = {"paper": len(store.indices("train", "validation")), "holdout": len(store.indices("train"))}
    assert known.exact == exact
    for protocol, size in prepared.items():
        assert known.size(protocol) == size if exact else known.size(protocol) >= size


@pytest.mark.parametrize("limit", [{}, {"train": 8}])
@pytest.mark.parametrize("test", [0.01, 0.3, 0.9])
def test_the_known_pool_is_the_prepared_one(tmp_path, declare, make_folder, test, limit):
    make_folder({"a": 8, "b": 13})
    split = {"method": "stratified", "test": test, "validation": 0.2}
    if test == 0.9:
        limit = {}
    assert_known(declare(source="folder", path="pictures", split=split, limit=limit), tmp_path)


@pytest.mark.parametrize("limit", [{}, {"train": 30}])
@pytest.mark.parametrize("validation", [0, 3])
def test_a_given_validation_part_is_what_is_held_out(tmp_path, declare, make_folder, validation, limit):
    for part, count in {"train": 50, "validation": validation, "test": 10}.items():
        if count:
            make_folder({"a": count, "b": count}, f"pictures/{part}")
    assert_known(declare(source="folder", path="pictures", split={"method": "given"}, limit=limit), tmp_path)


@pytest.mark.parametrize("limit", [{}, {"train": 12}])
@pytest.mark.parametrize("source", ["folder", "archive"])
def test_of_groups_no_more_is_known_than_the_most_there_can_be(tmp_path, declare, make_folder, pack, source, limit):
    folder = make_folder({"a": 12, "b": 12})
    path = pack(folder) if source == "archive" else folder
    split = {"method": "group", "test": 0.2, "group": {"pattern": r"(?P<group>\d)\.png"}}
    dataset = declare(source=source, path=path.name, split=split, limit=limit)
    if source == "archive" and not limit:
        assert known_pool("mine", dataset, tmp_path) is None
    else:
        assert_known(dataset, tmp_path, exact=False)


def test_of_unreadable_images_there_may_be_fewer(tmp_path, declare, make_folder):
    (make_folder({"a": 9, "b": 9}) / "a" / "000.png").write_bytes(b"no image")
    assert_known(declare(source="folder", path="pictures", skip_unreadable=True), tmp_path, exact=False)


@pytest.mark.parametrize(
    ("section", "pool"),
    [
        ({"source": "shapes", "train": 60}, Pool(60, 54, exact=True)),
        ({"source": "shapes", "train": 60, "limit": {"train": 12}}, Pool(12, 9, exact=True)),
        ({"source": "torchvision", "name": "CIFAR10"}, Pool(50_000, 45_000, exact=True)),
        ({"source": "torchvision", "name": "CIFAR100", "limit": {"train": 300}}, Pool(300, 200, exact=True)),
        ({"source": "archive", "path": "x.tar"}, None),
        ({"source": "archive", "path": "x.tar", "limit": {"train": 30}}, Pool(30, 22, exact=False)),
        ({"source": "archive", "path": "x.tar", "limit": {"train": 30}, "split": GIVEN}, Pool(30, 28, exact=False)),
    ],
)
def test_pools_known_from_the_declaration(tmp_path, declare, section, pool):
    assert known_pool("mine", declare(**section), tmp_path) == pool


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"train": 200, "limit": {"train": 1000}},
            r"`limit.train: 1000` must be from 3 \(3 classes\) to 200, the number of",
        ),
        ({"train": 200, "limit": {"train": 2}}, r"`limit.train: 2` must be from 3 \(3 classes\) to 200, the number of"),
        (
            {"test": 60, "limit": {"test": 1000}},
            r"`limit.test: 1000` must be from 3 \(3 classes\) to 60, the number of",
        ),
        ({"test": 60, "limit": {"test": 1}}, r"`limit.test: 1` must be from 3 \(3 classes\) to 60, the number of"),
        (
            {"train": 200, "limit": {"train": 5}},
            r"too few images .* each class needs at least 2; .*raise `limit.train`",
        ),
        ({"train": 5}, r"too few images to divide into parts, 5 training images of 3 classes"),
        ({"test": 2}, r"too few images to divide into parts, 2 test images of 3 classes; .* at least 1; add images$"),
        ({"test": 2, "limit": {"test": 2}}, r"too few images .* 2 test images of 3 classes; .*raise `limit.test`"),
    ],
)
def test_sizes_of_generated_figures_that_prepare_refuses_are_refused_in_the_plan(tmp_path, declare, section, message):
    dataset = declare(source="shapes", **section)
    with pytest.raises(PydynError, match=message) as caught:
        known_pool("mine", dataset, tmp_path)
    assert str(caught.value).startswith("data set 'mine'")
    with pytest.raises(type(caught.value)) as refused:
        prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")
    if "must be" in message:
        assert str(refused.value) == str(caught.value)


@pytest.mark.parametrize(
    "section", [{"train": 6, "test": 3}, {"train": 20, "test": 30, "limit": {"train": 6, "test": 3}}]
)
def test_the_fewest_generated_figures_are_enough(tmp_path, declare, section):
    assert_known(declare(source="shapes", **section), tmp_path)


@pytest.mark.parametrize(
    ("name", "limit", "message"),
    [
        ("CIFAR100", {"train": 99}, r"`limit.train: 99` must be from 100 \(100 classes\) to 50000"),
        (
            "CIFAR100",
            {"train": 199},
            r"too few images .* 199 training images of 100 classes; .* at least 2; add images or raise `limit.train`",
        ),
        ("MNIST", {"test": 10_001}, r"`limit.test: 10001` must be from 10 \(10 classes\) to 10000"),
        ("SVHN", {"test": 26_033}, r"`limit.test: 26033` must be from 10 \(10 classes\) to 26032"),
    ],
)
def test_limits_that_torchvisions_sets_cannot_meet_are_refused_before_a_download(
    tmp_path, declare, name, limit, message
):
    with pytest.raises(PydynError, match=message):
        known_pool("mine", declare(source="torchvision", name=name, limit=limit), tmp_path)


@pytest.mark.parametrize(
    ("counts", "limit", "message"),
    [
        ({"a": 12, "b": 2}, {}, r"too few images .* in classes {'b': 2}; each class needs at least 3; add images$"),
        ({"a": 12, "b": 12}, {"train": 3}, r"too few images .* 3 training images of 2 classes; .*raise `limit.train`"),
        (
            {"a": 12, "b": 12},
            {"train": 23},
            r"`limit.train: 23` must be from 2 \(2 classes\) to 22, the most there can be",
        ),
        (
            {"a": 12, "b": 12},
            {"test": 21},
            r"`limit.test: 21` must be from 2 \(2 classes\) to 20, the most there can be",
        ),
        ({"a": 12, "b": 12}, {"test": 1}, r"`limit.test: 1` must be from 2 \(2 classes\) to 20, the most there can be"),
    ],
)
def test_no_groups_make_up_for_too_few_images(tmp_path, declare, make_folder, counts, limit, message):
    make_folder(counts)
    split = {"method": "group", "test": 0.2, "group": {"pattern": r"(?P<group>\d)\.png"}}
    dataset = declare(source="folder", path="pictures", split=split, limit=limit)
    with pytest.raises(PydynError, match=message) as caught:
        known_pool("mine", dataset, tmp_path)
    with pytest.raises(type(caught.value)):
        prepare("mine", dataset, tmp_path, tmp_path / "mine.h5")


@pytest.mark.parametrize(
    ("limit", "message"), [({"train": 3}, "3 training images of at least 2 classes"), ({"test": 1}, "1 test images")]
)
@pytest.mark.parametrize("split", [GIVEN, {"method": "stratified", "test": 0.2}])
def test_an_archive_has_two_classes_at_the_least(tmp_path, declare, split, limit, message):
    dataset = declare(source="archive", path="x.tar", split=split, limit=limit)
    with pytest.raises(
        DataError, match=rf"too few images to divide into parts, {message}.* raise `limit\.{next(iter(limit))}`"
    ):
        known_pool("mine", dataset, tmp_path)


def test_generated_figures_have_as_many_classes_as_are_counted_with(tmp_path, declare):
    assert_known(declare(source="shapes", train=12, test=6), tmp_path)


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


def test_the_state_of_an_archive_changes_with_what_lies_in_its_place(tmp_path):
    dataset = ArchiveDataset(source="archive", path="set.tar", split=Split(method="stratified", test=0.2))
    states = [source_state(dataset, write_archive(tmp_path, b"x", 10))]
    assert source_state(dataset, tmp_path) == states[0]
    states.append(source_state(dataset, write_archive(tmp_path, b"longer", 10)))
    # A tar of as many images in other classes has the same size; a download keeps its date.
    states.append(source_state(dataset, write_archive(tmp_path, b"y", 5)))
    assert len(set(states)) == 3


def write_archive(folder, content, modified):
    (folder / "set.tar").write_bytes(content)
    os.utime(folder / "set.tar", (modified, modified))
    return folder
