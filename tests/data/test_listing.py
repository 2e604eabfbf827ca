import numpy as np
import pytest

from pydyn.data.listing import TEST, TRAIN, UNGIVEN, VALIDATION, arrange, share_count
from pydyn.errors import DataError


def folders_of(files):
    return {file.rpartition("/")[0] for file in files if "/" in file}


def arranged(*files, folders=(), **options):
    return arrange("data set 'x'", files, folders_of(files) | set(folders), **{"given": False, **options})


def test_class_folders():
    found = arranged("b/1.jpg", "a/deep/2.PNG", "a/3.tif", "README.md", "cover.jpg", "a/notes.txt").listing
    assert found.class_names == ("a", "b")
    assert found.paths == ["b/1.jpg", "a/deep/2.PNG", "a/3.tif"]
    assert found.labels.tolist() == [1, 0, 0]
    assert set(found.parts) == {UNGIVEN}


def test_hidden_files_are_no_images():
    found = arranged("a/1.png", "a/._1.png", "__MACOSX/a/._1.png", ".cache/2.png", "b/2.png", "b/.thumbs/2.png").listing
    assert found.paths == ["a/1.png", "b/2.png"]


def test_files_that_may_have_been_meant_are_named():
    files = (
        "a/1.png",
        "a/2.heic",
        "a/deep/3.avif",
        "b/1.png",
        "b/Thumbs.db",
        "b/.DS_Store",
        "cover.jpg",
        "labels.csv",
        "README",
    )
    assert arranged(*files).listing.aside == ("a/2.heic", "a/deep/3.avif", "cover.jpg")
    files = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.heic", "test/b/1.png", "extra/a/1.png")
    assert arranged(*files, given=True).listing.aside == ("test/b/1.heic", "extra/a/1.png")
    assert arranged("a/1.png", "b/1.png", "b/desktop.ini").listing.aside == ()


def test_given_parts():
    files = ("Train/a/1.png", "train/b/1.png", "val/a/2.png", "validation/b/2.png", "test/a/3.png", "test/b/3.png")
    found = arranged(*files, "extra/a/4.png", given=True).listing
    assert found.parts.tolist() == [TRAIN, TRAIN, VALIDATION, VALIDATION, TEST, TEST]


@pytest.mark.parametrize("given", [False, True])
def test_enclosing_folder_is_stripped(given):
    local = ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"] if given else ["a/1.png", "b/1.png"]
    found = arranged("top/cover.png", *(f"top/{file}" for file in local), given=given, strip_top=True)
    assert found.listing.paths == local
    assert str(found.top) == "top"
    assert np.array_equal(found.positions, np.arange(len(local)) + 1)


@pytest.mark.parametrize("given", [False, True])
def test_nothing_is_stripped_without_enclosing_folder(given):
    local = ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"] if given else ["a/1.png", "b/1.png"]
    assert arranged(*local, given=given, strip_top=True).listing.paths == local


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (["a/1.txt"], {}, "holds no images"),
        (["1.png"], {}, r"0 class folders with images \(none\)"),
        (["a/1.png"], {}, r"1 class folders with images \('a'\)"),
        (["a/1.png", "b/1.png", "c/1.heic"], {}, "no images in class folder 'c'"),
        (["a/1.png", "b/1.png"], {"folders": ["c"]}, "no images in class folder 'c'"),
        (["a/1.png", "A/1.png"], {}, "'A' and 'a' differ by case only"),
        (["train/a/1.png", "train/b/1.png"], {"given": True}, "no images in test/CLASS/"),
        (["test/a/1.png", "test/b/1.png"], {"given": True}, "no images in train/CLASS/"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], {"given": True, "folders": ["test/b"]}, "'test/b'"),
    ],
)
def test_refusals(files, options, message):
    with pytest.raises(DataError, match=message) as caught:
        arranged(*files, **options)
    assert str(caught.value).startswith("data set 'x'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("n_images", "share", "count"), [(100, 0.25, 25), (10, 0.01, 2), (10, 0.99, 6), (6, 0.5, 2), (20, 0.1, 2)]
)
def test_share_leaves_something_of_two_classes_on_both_sides(n_images, share, count):
    assert share_count(n_images, share, n_classes=2, leave=2) == count
