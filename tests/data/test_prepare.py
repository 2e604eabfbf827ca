import os
import shutil
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from pydyn.data.batches import ResidentImages
from pydyn.data.listing import TEST
from pydyn.files import TEMPORARY_MARK


def test_a_folder_becomes_a_store(make_folder, prepared):
    folder = make_folder({"b": 8, "a": 8})
    store = prepared(source="folder", path="pictures")
    assert store.class_names == ("a", "b")
    assert store.image_shape == (9, 12, 3)
    assert store.sources() == sorted(store.sources())
    for row, name in enumerate(store.sources()):
        assert np.array_equal(store.images(np.array([row]))[0], np.asarray(Image.open(folder / name)))
        assert store.class_names[store.labels[row]] == name[0]
    assert [len(store.indices(part)) for part in ("train", "validation", "test")] == [9, 3, 4]


@pytest.mark.parametrize("suffix", [".tar", ".tar.xz", ".zip"])
def test_an_archive_gives_the_store_of_its_folder(make_folder, pack, prepared, suffix):
    path = pack(make_folder({"a": 8, "b": 8}), suffix)
    from_archive = prepared("archive.h5", source="archive", path=path.name)
    from_folder = prepared("folder.h5", source="folder", path="pictures")
    assert from_archive.sources() == from_folder.sources()
    assert from_archive.digest == from_folder.digest


def test_same_declaration_and_data_give_the_same_digest(make_folder, prepared):
    make_folder({"a": 8, "b": 8})
    section = {"source": "folder", "path": "pictures"}
    again = {**section, "split": {"method": "stratified", "test": 0.25, "validation": 0.25, "seed": 1}}
    first, second, other = (prepared(f"{i}.h5", **one) for i, one in enumerate((section, section, again)))
    assert first.digest == second.digest != other.digest


def test_groups_from_an_archived_manifest(make_folder, pack, prepared):
    folder = make_folder({"a": 24, "b": 24})
    rows = [f"{path.relative_to(folder)},{path.stem}" for path in folder.rglob("*.png")]
    (folder / "m.csv").write_text("file,number\n" + "\n".join(rows))
    group = {"manifest": "m.csv", "column": "number", "block": 4}
    split = {"method": "group", "test": 0.25, "validation": 0.25, "group": group}
    from_archive = prepared("archive.h5", source="archive", path=pack(folder).name, split=split)
    from_folder = prepared("folder.h5", source="folder", path="pictures", split=split)
    assert len(from_archive.group_names) == 12
    assert all(len(np.unique(from_archive.split[from_archive.group == group])) == 1 for group in range(12))
    assert from_archive.digest == from_folder.digest


def test_only_kept_images_are_decoded(make_folder, prepared):
    folder = make_folder({f"{part}/{name}": 6 for part in ("train", "test") for name in "ab"})
    section = {"source": "folder", "path": "pictures", "split": {"method": "given"}, "limit": {"train": 6}}
    kept = prepared("first.h5", **section).sources()
    for path in folder.rglob("*.png"):
        if str(path.relative_to(folder)) not in kept:
            path.write_bytes(b"spoilt")
    assert prepared("second.h5", **section).sources() == kept


def test_sizes_and_channels_as_declared(make_folder, prepared):
    folder = make_folder({"a": 5, "b": 5})
    Image.new("RGB", (40, 70)).save(folder / "a" / "large.png")
    store = prepared(source="folder", path="pictures", image_size=[16, 20], channels=1)
    assert store.image_shape == (16, 20, 1)


def test_images_of_other_sizes_are_refused_with_their_number(make_folder, refused):
    folder = make_folder({"a": 5, "b": 20})
    for index in range(12):
        Image.new("RGB", (40, 70)).save(folder / "b" / f"{index:03}.png")
    message = refused(source="folder", path="pictures")
    assert "12 of 25 images have another height x width than the first, a/000.png (9 x 12)" in message
    assert "'b/000.png (70 x 40)'" in message
    assert "and 2 more; set `image_size`" in message


@pytest.fixture
def spoilt(make_folder):
    """A folder with a truncated, an empty and a foreign file among its images."""
    folder = make_folder({"a": 12, "b": 12})
    whole = (folder / "a" / "003.png").read_bytes()
    (folder / "a" / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "000.png").write_bytes(b"")
    (folder / "b" / "011.png").write_text("no image")
    return folder


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_unreadable_images_are_all_named(spoilt, pack, refused, source):
    path = spoilt if source == "folder" else pack(spoilt)
    message = refused(source=source, path=path.name)
    assert "3 of 24 images cannot be decoded; mend or remove them, or set `skip_unreadable: true`" in message
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == ["a/003.png", "b/000.png", "b/011.png"]


def test_unreadable_images_are_left_out_and_recorded(spoilt, prepared, caplog):
    store = prepared(source="folder", path="pictures", skip_unreadable=True)
    assert list(store.skipped) == ["a/003.png", "b/000.png", "b/011.png"]
    assert all(store.skipped.values())
    assert store.n_images == len(store.sources()) == len(store.images()) == 21
    assert "left out 3 of 24 images" in caplog.text
    store.verify()
    # Of the training images that are there, and not of those that stand at their places in the list.
    train = store.images(store.indices("train")) / 255
    assert (store.mean, store.std) == (pytest.approx(train.mean((0, 1, 2))), pytest.approx(train.std((0, 1, 2))))


def test_a_class_lost_to_skipping_is_refused(spoilt, refused):
    for path in (spoilt / "b").iterdir():
        path.write_bytes(b"spoilt")
    message = refused(source="folder", path="pictures", skip_unreadable=True)
    assert "the train part has no image of class 'b'" in message


def test_nothing_but_unreadable_images_is_refused(spoilt, refused):
    for path in spoilt.rglob("*.png"):
        path.write_bytes(b"spoilt")
    assert "24 of 24 images cannot be decoded" in refused(source="folder", path="pictures", skip_unreadable=True)


def test_a_channel_without_contrast_has_no_deviation(make_folder, prepared):
    folder = make_folder({"a": 6, "b": 6})
    for path in folder.rglob("*.png"):
        Image.new("RGB", (8, 8), (255, 0, 51)).save(path)
    store = prepared(source="folder", path="pictures")
    assert store.mean.tolist() == [1.0, 0.0, 0.2]
    assert store.std.tolist() == [0.0, 0.0, 0.0]
    images = ResidentImages.from_store(store, torch.device("cpu"))
    assert images.batch(torch.arange(store.n_images)).eq(0).all()


def test_names_that_are_no_unicode_survive(make_folder, prepared):
    folder = make_folder({"a": 6, "b": 6})
    try:
        (folder / "a").rename(folder / os.fsdecode(b"\xff"))
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    store = prepared(source="folder", path="pictures")
    assert store.class_names == ("b", "\\udcff")
    assert "\\udcff/000.png" in store.sources()
    store.verify()


def test_files_that_are_left_out_are_told(make_folder, prepared, caplog):
    folder = make_folder({"a": 8, "b": 8})
    (folder / "notes.txt").write_text("of no class")
    prepared("plain.h5", source="folder", path="pictures")
    assert "left out" not in caplog.text
    (folder / "a" / "photo.heic").write_bytes(b"of a telephone")
    prepared("more.h5", source="folder", path="pictures")
    assert "files left out: 1, such as a/photo.heic; images of a data set lie in its class folders" in caplog.text


def test_copies_are_named_and_those_of_another_class(make_folder, prepared, caplog):
    folder = make_folder({"a": 10, "b": 10})
    prepared(source="folder", path="pictures")
    assert "copies" not in caplog.text
    Image.open(folder / "a" / "003.png").save(folder / "a" / "copy.bmp")
    shutil.copy(folder / "a" / "005.png", folder / "b" / "copy.png")
    copy_of = {"a/003.png": "a/copy.bmp", "a/005.png": "b/copy.png"}
    for number in range(10):
        copy_of[f"b/00{number}.png"] = f"b/again{number}.png"
        shutil.copy(folder / f"b/00{number}.png", folder / f"b/again{number}.png")
    store = prepared("out/second.h5", source="folder", path="pictures")
    part = dict(zip(store.sources(), store.split.tolist(), strict=True))
    crossing = sum((part[one] == TEST) != (part[other] == TEST) for one, other in copy_of.items())
    assert crossing > 0
    assert "12 of 32 images are copies of others, such as a/003.png and a/copy.bmp; copies that fall" in caplog.text
    assert f"flatter a model ({crossing} of {len(store.indices('test'))} test images here)" in caplog.text
    assert (
        "1 of these copies are of another class than the image they copy, such as a/005.png (a) and b/copy.png (b)"
        in caplog.text
    )


def test_colours_that_a_grey_first_image_costs_are_told(make_folder, prepared, caplog):
    folder = make_folder({"a": 8, "b": 8})
    Image.open(folder / "b" / "000.png").convert("L").save(folder / "b" / "000.png")
    prepared(source="folder", path="pictures")
    assert "grey" not in caplog.text
    Image.open(folder / "a" / "000.png").convert("L").save(folder / "a" / "000.png")
    assert prepared(source="folder", path="pictures", channels=1, output="out/1.h5").image_shape[2] == 1
    assert prepared(source="folder", path="pictures", channels=3, output="out/3.h5").image_shape[2] == 3
    assert "grey" not in caplog.text
    assert prepared(source="folder", path="pictures", output="out/first.h5").image_shape[2] == 1
    assert "the first image, a/000.png, is grey, and so the colours of 14 of 16 images are dropped" in caplog.text
    caplog.clear()
    Image.open(folder / "a" / "001.png").convert("L").save(folder / "a" / "001.png")
    (folder / "a" / "000.png").write_bytes(b"spoilt")
    prepared(source="folder", path="pictures", skip_unreadable=True, output="out/second.h5")
    assert "the first image, a/001.png, is grey, and so the colours of 13 of 15 images are dropped" in caplog.text
    caplog.clear()
    for path in folder.glob("b/*.png"):  # grey, saved in colour
        Image.open(path).convert("L").convert("RGB").save(path)
    prepared(source="folder", path="pictures", skip_unreadable=True, output="out/third.h5")
    assert "the colours of 6 of 15 images are dropped" in caplog.text


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_archive_leaves_nothing(make_folder, pack, refused, share):
    path = pack(make_folder({"a": 20, "b": 20}, size=(50, 50)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "is truncated, corrupt" in refused(source="archive", path=path.name)


def test_an_archive_damaged_in_the_second_pass_leaves_nothing(make_folder, pack, refused, monkeypatch):
    path = pack(make_folder({"a": 20, "b": 20}, size=(50, 50)))

    def damage(*arguments):
        os.truncate(path, 60_000)
        return divide(*arguments)

    from pydyn.data.splits import divide

    monkeypatch.setattr("pydyn.data.prepare.divide", damage)
    assert "is truncated, corrupt" in refused(source="archive", path=path.name)


def test_unsafe_members_leave_nothing(tmp_path, make_folder, refused):
    folder = make_folder({"a": 4, "b": 4})
    for member, message in (("../evil.png", "leaves the archive"), ("pictures/a/link.png", "a link or a device")):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            archive.add(folder, "pictures")
            info = tarfile.TarInfo(member)
            info.type = tarfile.SYMTYPE if "link" in member else tarfile.REGTYPE
            info.linkname = "/etc/passwd"
            archive.addfile(info)
        found = refused(source="archive", path="x.tar")
        assert message in found
        assert repr(member) in found


def test_bad_folders_leave_nothing(make_folder, refused):
    folder = make_folder({"a": 4})
    assert "1 class folders" in refused(source="folder", path="pictures")
    (folder / "b").mkdir()
    assert "no images in class folder 'b'" in refused(source="folder", path="pictures")


def test_a_limit_beyond_the_images_is_refused(refused):
    message = refused(source="shapes", train=60, test=30, limit={"train": 61})
    assert "`limit.train: 61` must be from 3 (3 classes) to 60" in message


KILLED = """
import sys, time
from pathlib import Path
from pydyn.config.datasets import ShapesDataset
from pydyn.data import prepare, store
add = store.StoreWriter.add
def slow(self, images):
    add(self, images)
    print("writing", flush=True)
    time.sleep(60)
store.StoreWriter.add = slow
prepare.prepare("mine", ShapesDataset(source="shapes", train=90, test=30), Path(), Path(sys.argv[1]))
"""


def test_a_killed_prepare_leaves_no_store_and_the_next_cleans_up(tmp_path, prepared):
    folder = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder / "store.h5"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (left_over,) = folder.iterdir()
    assert TEMPORARY_MARK in left_over.name
    prepared(source="shapes", train=90, test=30).verify()
    assert [path.name for path in folder.iterdir()] == ["store.h5"]


def test_progress_is_plain_lines_in_a_log(prepared, capsys, monkeypatch):
    ticks = iter(range(0, 10_000, 2))
    monkeypatch.setattr("pydyn.data.progress.time.monotonic", lambda: next(ticks))
    prepared(source="shapes", train=90, test=30)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("prepare mine: 2 of 120 (")
    assert all(line.startswith("prepare mine: ") and "\r" not in line for line in lines)


def test_memory_holds_a_window_not_the_data_set(make_folder, tmp_path):
    folder = make_folder({"a": 60, "b": 60}, size=(600, 800))
    # Of this process alone: a child's ru_maxrss begins at its parent's peak, which hides everything below that.
    code = """
import sys
from pathlib import Path
import sklearn.model_selection
from pydyn.config.datasets import FolderDataset, Split
from pydyn.data.prepare import prepare
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
dataset = FolderDataset(source="folder", path=sys.argv[1], split=Split(method="stratified", test=0.2))
before = peak()
prepare("mine", dataset, Path(), Path(sys.argv[2]))
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "x.h5"], capture_output=True, text=True, check=True
    )
    growth = int(done.stdout.split()[-1])
    # 120 images of 1.4 MiB are 165 MiB.
    assert 0 < growth < 80 * 1024
