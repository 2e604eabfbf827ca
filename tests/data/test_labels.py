"""Classes that a manifest or the images' paths tell, instead of folders."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from pydyn.config.datasets import Labels
from pydyn.data.checks import check_source, known_pool
from pydyn.data.listing import TEST, TRAIN, arrange_labelled
from pydyn.errors import ConfigError, DataError

BY_COLUMN = {"manifest": "labels.csv", "column": "kind"}
KINDS = ("oak", "ash", "elm")


@pytest.fixture
def flat(make_folder):
    """24 images in one folder of no class, and a manifest of three classes that says which tree each is of."""
    folder = make_folder({"images": 24})
    rows = [f"images/{index:03}.png,{KINDS[index % 3]},{index // 3}" for index in range(24)]
    (folder / "labels.csv").write_text("file,kind,tree\n" + "\n".join(rows))
    return folder


def test_a_manifest_tells_classes(flat, prepared):
    store = prepared(source="folder", path="pictures", labels=BY_COLUMN)
    assert store.class_names == ("ash", "elm", "oak")
    assert store.n_images == 24
    for path, label in zip(store.sources(), store.labels, strict=True):
        assert store.class_names[label] == KINDS[int(path[-7:-4]) % 3]


def test_a_pattern_tells_classes(make_folder, prepared):
    folder = make_folder({"cell/a": 12, "cell/b": 12})
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"S_{'MB'[index % 2]}-{index}.png"))
    store = prepared(source="folder", path="pictures", labels={"pattern": "/S_(?P<label>[A-Z])-"})
    assert store.class_names == ("B", "M")
    assert all(
        f"S_{store.class_names[label]}-" in path for path, label in zip(store.sources(), store.labels, strict=True)
    )


@pytest.mark.parametrize("suffix", [".tar.xz", ".zip"])
def test_an_archive_gives_the_store_of_its_folder(flat, pack, prepared, suffix):
    group = {"manifest": "labels.csv", "column": "tree"}
    options = {"labels": BY_COLUMN, "split": {"method": "group", "test": 0.25, "validation": 0.25, "group": group}}
    from_archive = prepared("archive.h5", source="archive", path=pack(flat, suffix).name, **options)
    from_folder = prepared("folder.h5", source="folder", path="pictures", **options)
    assert from_archive.sources() == from_folder.sources()
    assert from_archive.digest == from_folder.digest
    assert len(from_folder.group_names) == 8


def test_labels_and_folders_that_say_the_same_give_the_same_store(make_folder, prepared):
    make_folder({"a": 8, "b": 8})
    by_folder = prepared("folders.h5", source="folder", path="pictures")
    by_pattern = prepared("labels.h5", source="folder", path="pictures", labels={"pattern": "^(?P<label>[^/]+)/"})
    assert by_pattern.digest == by_folder.digest


def test_given_parts_need_no_class_folders(make_folder, prepared):
    folder = make_folder({"train": 8, "test": 4, "elsewhere": 4})
    rows = [f"{part}/{index:03}.png,{'xy'[index % 2]}" for part, n in (("train", 8), ("test", 4)) for index in range(n)]
    (folder / "labels.csv").write_text("file,kind\n" + "\n".join(rows))
    split = {"method": "given", "validation": 0.25}
    store = prepared(source="folder", path="pictures", labels=BY_COLUMN, split=split)
    assert [len(store.indices(part)) for part in ("train", "validation", "test")] == [6, 2, 4]
    assert np.bincount(store.labels).tolist() == [6, 6]


def test_the_known_pool_is_the_prepared_one(flat, declare, prepared, tmp_path):
    section = {"source": "folder", "path": "pictures", "labels": BY_COLUMN}
    pool, store = known_pool("mine", declare(**section), tmp_path), prepared(**section)
    assert pool is not None
    assert (pool.paper, pool.holdout, pool.exact) == (18, len(store.indices("train")), True)


def labelled(files, **options):
    """The arrangement of files whose names begin with their class."""
    named = lambda top, paths: [path.rpartition("/")[2][0] for path in paths]  # noqa: E731
    return arrange_labelled("data set 'x'", files, named, **{"given": False, "strip_top": True, **options})


@pytest.mark.parametrize(
    ("files", "top"),
    [
        (["images/a1.png", "images/b1.png", "labels.csv"], "."),
        (["set/images/a1.png", "set/images/b1.png", "set/labels.csv"], "set"),
        (["set/a1.png", "set/b1.png", "set/labels.csv", "._set", "__MACOSX/set/._a1.png"], "set"),
        (["a1.png", "more/b1.png"], "."),
    ],
)
def test_the_enclosing_folder_lies_above_all_files(files, top):
    found = labelled(files)
    assert str(found.top) == top
    assert found.listing.class_names == ("a", "b")
    assert [files[position].removeprefix(f"{top}/") for position in found.positions] == found.listing.paths


def test_given_parts_are_not_taken_for_an_enclosing_folder():
    files = ["set/train/a1.png", "set/Test/deep/b1.png", "set/other/b2.png"]
    found = labelled(files, given=True)
    assert found.listing.parts.tolist() == [TRAIN, TEST]
    assert found.listing.aside == ("set/other/b2.png",)
    with pytest.raises(DataError, match=r"no images in test/, which `split.method: given` needs"):
        labelled(["train/a1.png", "train/b1.png"], given=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no file 'labels.csv', which `labels.manifest` names"),
        ("file,sort\n", "labels.csv: has no column 'kind'; it has 'file', 'sort'"),
        ("file,kind\nimages/000.png,oak\n", "gives no 'kind' for 'images/001.png'.* and 13 more; add rows for them"),
        ("file,kind\n" + "".join(f"images/{i:03}.png,oak\n" for i in range(24)), r"has 1 labels with images \('oak'\)"),
        ("file,kind\n" + "".join(f"images/{i:03}.png,{'Oo'[i % 2]}ak\n" for i in range(24)), "'Oak' and 'oak' differ"),
    ],
)
def test_what_a_manifest_lacks_is_refused_in_the_plan(flat, declare, tmp_path, text, message):
    (flat / "labels.csv").unlink()
    if text is not None:
        (flat / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=f"data set 'mine'.*{message}"):
        check_source("mine", declare(source="folder", path="pictures", labels=BY_COLUMN), tmp_path)


def test_a_pattern_that_finds_nothing_is_refused_in_the_plan(flat, declare, tmp_path):
    dataset = declare(source="folder", path="pictures", labels={"pattern": "(?P<label>0[01].)"})
    with pytest.raises(
        ConfigError, match=r"`labels.pattern` .* finds no label in 'images/020.png'.*; mend the pattern"
    ):
        check_source("mine", dataset, tmp_path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "either `manifest` and `column`, or `pattern`"),
        ({"manifest": "m.csv"}, "go together"),
        ({"manifest": "../m.csv", "column": "kind"}, "must be a path inside the data set"),
        ({"pattern": "(?P<group>.)"}, r"needs a named group: \(\?P<label>"),
        ({"manifest": "m.csv", "column": "kind", "block": 4}, "block"),
    ],
)
def test_wrong_declarations_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        Labels.model_validate(section)


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Ä") for form in ("NFC", "NFD"))


def test_a_manifest_tells_of_files_whose_names_are_coded_otherwise(make_folder, prepared):
    """As those are that were packed on a Mac."""
    folder = make_folder({"images": 24})
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"{DECOMPOSED}{index}.png"))
    forms = (COMPOSED, DECOMPOSED)
    rows = [
        f"images/{COMPOSED}{index}.png,{forms[index // 2 % 2]}{'xy'[index % 2]},{index // 2}" for index in range(24)
    ]
    (folder / "labels.csv").write_text("file,kind,tree\n" + "\n".join(rows))
    store = prepared(source="folder", path="pictures", labels=BY_COLUMN)
    assert store.class_names == (f"{COMPOSED}x", f"{COMPOSED}y")
    assert store.n_images == 24
    pattern = {"pattern": f"{COMPOSED}[0-9]*(?P<label>[01])\\."}
    with pytest.raises(ConfigError, match=rf"finds no label in 'images/{COMPOSED}12\.png'"):
        prepared("pattern.h5", source="folder", path="pictures", labels=pattern)


def test_class_folders_of_one_name_are_one_class_however_it_is_coded(make_folder, prepared):
    make_folder({f"train/{COMPOSED}": 8, "train/b": 8, f"test/{DECOMPOSED}": 4, "test/b": 4})
    store = prepared(source="folder", path="pictures", split={"method": "given", "validation": 0.25})
    assert store.class_names == ("b", COMPOSED)
    assert np.bincount(store.labels[store.indices("test")]).tolist() == [4, 4]


@pytest.mark.parametrize("named", ["C:\\\\{}", "pictures/{}"])
def test_rows_that_name_no_image_are_told_where_images_have_none(flat, declare, tmp_path, named):
    rows = [f"{named.format(f'images/{index:03}.png')},{'xy'[index % 2]}" for index in range(24)]
    (flat / "labels.csv").write_text("file,kind\n" + "\n".join(rows))
    dataset = declare(source="folder", path="pictures", labels=BY_COLUMN)
    with pytest.raises(DataError) as caught:
        check_source("mine", dataset, tmp_path)
    first = named.format("images/000.png")
    assert f"24 rows of no image, such as {first!r}: they are relative to the data set's" in str(caught.value)


def test_unreadable_images_are_named_as_elsewhere(flat, prepared):
    (flat / "images/007.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images/007\.png"):
        prepared(source="folder", path="pictures", labels=BY_COLUMN)
    Image.new("RGB", (12, 9)).save(flat / "images/007.png")
    assert prepared(source="folder", path="pictures", labels=BY_COLUMN).n_images == 24
