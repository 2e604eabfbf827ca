"""Divisions of a store's images anew: whole groups, all classes, the declared shares, the declared one first."""

import numpy as np
import pytest
from PIL import Image

from pydyn.data.listing import PARTS
from pydyn.data.resplit import resplit


@pytest.fixture
def grouped(prepared, make_folder):
    make_folder({"a": 60, "b": 40})
    split = {"method": "group", "test": 0.25, "validation": 0.2, "group": {"pattern": r"(?P<group>[ab]/\d\d)\d"}}
    return prepared(source="folder", path="pictures", split=split)


def test_seed_0_is_the_declared_division(grouped):
    assert np.array_equal(resplit(grouped, "declared", 0), grouped.split)


def test_groups_stay_whole_and_other_seeds_divide_otherwise(grouped):
    divisions = [resplit(grouped, "declared", seed) for seed in range(4)]
    for division in divisions:
        for group in range(len(grouped.group_names)):
            assert len(set(division[grouped.group == group])) == 1
        for part in range(len(PARTS)):
            assert set(grouped.labels[division == part]) == {0, 1}
    assert len({division.tobytes() for division in divisions}) == 4


def test_every_group_is_tested_in_some_replicates_and_none_in_all(prepared, tmp_path):
    for label in "ab":
        for patient in range(12):  # with 1 to 12 images each
            for image in range(patient + 1):
                path = tmp_path / "patients" / label / f"p{patient}-{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), patient * 20 + image).save(path)
    split = {"method": "group", "test": 0.3, "validation": 0.2, "group": {"pattern": r"(?P<group>[ab]/p\d+)"}}
    store = prepared(source="folder", path="patients", split=split)
    tested = np.zeros(24, int)
    for seed in range(20):
        division = resplit(store, "declared", seed)
        assert 0.2 < (division == PARTS.index("test")).mean() < 0.4
        tested[np.unique(store.group[division == PARTS.index("test")])] += 1
    # Of 20 draws with 3 chances in 10, fewer than 1 or more than 14 would happen to one group of a thousand.
    assert 1 <= tested.min() <= tested.max() <= 14


def test_image_by_image_groups_are_divided(grouped):
    division = resplit(grouped, "image", 0)
    parts_of = [len(set(division[grouped.group == group])) for group in range(len(grouped.group_names))]
    assert max(parts_of) > 1
    assert (division == PARTS.index("test")).sum() == 25
    assert (division == PARTS.index("validation")).sum() == 15


def test_a_given_test_part_stays(prepared, make_folder):
    for part, count in (("train", 20), ("test", 8)):
        make_folder({"a": count, "b": count}, f"pictures/{part}")
    store = prepared(source="folder", path="pictures", split={"method": "given", "validation": 0.25})
    test = PARTS.index("test")
    divisions = [resplit(store, kind, seed) for kind in ("declared", "image") for seed in range(3)]
    assert np.array_equal(divisions[0], store.split)
    for division in divisions:
        assert np.array_equal(division == test, store.split == test)
    assert not np.array_equal(divisions[0], divisions[1])
    assert np.array_equal(divisions[1], divisions[4])  # nothing to divide by but images


@pytest.mark.parametrize("name", ["val", "Validation"])
def test_a_given_validation_part_stays(prepared, make_folder, name):
    for part, count in (("train", 20), (name, 6), ("test", 8)):
        make_folder({"a": count, "b": count}, f"pictures/{part}")
    store = prepared(source="folder", path="pictures", split={"method": "given"})
    assert (store.split == PARTS.index("validation")).sum() == 12
    for seed in range(3):
        assert np.array_equal(resplit(store, "declared", seed), store.split)


def test_only_images_of_the_store_are_divided(prepared, make_folder):
    make_folder({"a": 40, "b": 40})
    split = {"method": "stratified", "test": 0.25}
    store = prepared(source="folder", path="pictures", split=split, limit={"train": 20, "test": 10})
    division = resplit(store, "declared", 1)
    assert len(division) == store.n_images == 30
    assert set(division) == {0, 1, 2}
