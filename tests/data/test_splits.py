import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydyn.config.datasets import Group, Limit, Split
from pydyn.data.groups import Groups, find_groups, no_groups
from pydyn.data.listing import TEST, TRAIN, UNGIVEN, VALIDATION, Listing
from pydyn.data.splits import divide, draw_by_stratum
from pydyn.errors import ConfigError, DataError

WHERE = "data set 'x'"
BY_PATTERN = Group(pattern="(?P<group>.+)")
shares = st.floats(0.05, 0.6)
seeds = st.integers(0, 2**31)


def listing_of(labels, parts=None, n_classes=None):
    labels = np.asarray(labels, dtype=np.int64)
    return Listing(
        class_names=tuple("abcdefghij"[: n_classes or labels.max() + 1]),
        paths=[f"{label}/{i}.png" for i, label in enumerate(labels)],
        labels=labels,
        parts=np.full(len(labels), UNGIVEN, np.int8) if parts is None else np.asarray(parts, np.int8),
    )


def division_of(labels, split, parts=None, limit=None, groups=None):
    listing = listing_of(labels, parts)
    return divide(WHERE, listing, groups or no_groups(len(listing.paths)), split, limit or Limit())


def counts(labels, division, part):
    return np.bincount(np.asarray(labels)[division.rows[division.parts == part]]).tolist()


@given(class_sizes=st.lists(st.integers(3, 60), min_size=2, max_size=6), test=shares, validation=shares, seed=seeds)
@settings(max_examples=150)
def test_stratified_parts_partition_the_images_and_hold_every_class(class_sizes, test, validation, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
    split = Split(method="stratified", test=test, validation=validation, seed=seed)
    division = division_of(labels, split)
    assert np.array_equal(division.rows, np.arange(len(labels)))
    for part in (TRAIN, VALIDATION, TEST):
        assert min(counts(labels, division, part)) >= 1
        assert len(counts(labels, division, part)) == len(class_sizes)
    again = division_of(labels, split)
    assert np.array_equal(again.parts, division.parts)


@given(n_groups=st.integers(16, 40), test=st.floats(0.1, 0.5), validation=st.floats(0.1, 0.5), seed=seeds)
@settings(max_examples=60)
def test_groups_are_never_split_apart(n_groups, test, validation, seed):
    generator = np.random.default_rng(seed)
    ids = np.repeat(np.arange(n_groups), generator.integers(3, 12, n_groups)).astype(np.int32)
    labels = ids % 2
    groups = Groups(ids, tuple(map(str, range(n_groups))))
    split = Split(method="group", test=test, validation=validation, seed=seed, group=BY_PATTERN)
    division = division_of(labels, split, groups=groups)
    held = [set(ids[division.rows[division.parts == part]]) for part in (TRAIN, VALIDATION, TEST)]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert set.union(*held) == set(range(n_groups))
    assert all(len(counts(labels, division, part)) == 2 for part in (TRAIN, VALIDATION, TEST))
    assert np.array_equal(division.parts, division_of(labels, split, groups=groups).parts)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6), share=st.floats(0, 1), seed=seeds)
@settings(max_examples=200)
def test_a_draw_has_its_size_and_each_stratum_its_share(sizes, share, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    count = max(len(sizes), round(share * len(strata)))
    drawn = draw_by_stratum(strata, count, np.random.default_rng(seed))
    assert len(set(drawn)) == len(drawn) == count
    assert np.all(np.diff(drawn) > 0)
    got = np.bincount(strata[drawn], minlength=len(sizes))
    exact = np.array(sizes) * count / len(strata)
    if exact.min() >= 1:
        assert np.abs(got - exact).max() < 1
    assert got.min() >= 1


def test_shares_are_those_declared():
    labels = np.tile([0, 1], 500)
    division = division_of(labels, Split(method="stratified", test=0.2, validation=0.1))
    assert [counts(labels, division, part) for part in (TRAIN, VALIDATION, TEST)] == [[360] * 2, [40] * 2, [100] * 2]


def test_seed_decides():
    labels = np.tile([0, 1], 50)
    first, second = (division_of(labels, Split(method="stratified", test=0.2, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first.parts, second.parts)


def test_given_parts_are_kept_and_validation_is_carved():
    labels, parts = np.tile([0, 1], 100), np.repeat([TRAIN, TEST], 100)
    division = division_of(labels, Split(method="given", validation=0.1), parts)
    assert np.array_equal(division.parts == TEST, parts == TEST)
    assert counts(labels, division, VALIDATION) == [5, 5]


def test_given_validation_is_kept():
    labels, parts = np.tile([0, 1], 90), np.repeat([TRAIN, VALIDATION, TEST], 60)
    assert np.array_equal(division_of(labels, Split(method="given"), parts).parts, parts)
    limited = division_of(labels, Split(method="given"), parts, Limit(train=20))
    assert [counts(labels, limited, part) for part in (TRAIN, VALIDATION)] == [[5, 5], [5, 5]]


@pytest.mark.parametrize("count", [20, 99, 100])
def test_limits_draw_by_class(count):
    labels, parts = np.tile([0, 1], 100), np.repeat([TRAIN, TEST], 100)
    division = division_of(labels, Split(method="given", validation=0.25), parts, Limit(train=count, test=10))
    assert np.sum(division.parts != TEST) == count
    assert np.sum(division.parts == VALIDATION) == round(count / 4)
    assert counts(labels, division, TEST) == [5, 5]


def test_a_smaller_limit_keeps_a_subset():
    labels, parts = np.tile([0, 1, 2], 100), np.repeat([TRAIN, TEST], 150)
    small, large = (
        set(division_of(labels, Split(method="given"), parts, Limit(train=count)).rows) for count in (30, 90)
    )
    assert small < large


@pytest.mark.parametrize("limit", [Limit(train=101), Limit(test=101), Limit(test=1)])
def test_limits_that_cannot_be_met_are_refused(limit):
    labels, parts = np.tile([0, 1], 100), np.repeat([TRAIN, TEST], 100)
    with pytest.raises(ConfigError, match=r"`limit.t\w+: \d+` must be from 2 \(2 classes\) to 100"):
        division_of(labels, Split(method="given"), parts, limit)


def test_a_limit_that_leaves_nothing_to_validate_is_refused():
    labels, parts = np.tile([0, 1], 100), np.repeat([TRAIN, TEST], 100)
    with pytest.raises(DataError, match=r"too few images to divide .* or raise `limit.train`"):
        division_of(labels, Split(method="given"), parts, Limit(train=3))


@pytest.mark.parametrize("rare", [1, 2])
def test_classes_too_small_are_refused(rare):
    with pytest.raises(DataError, match=rf"in classes \{{'b': {rare}\}}; each class needs at least 3"):
        division_of([0] * 20 + [1] * rare, Split(method="stratified", test=0.2))


def test_a_given_part_without_a_class_is_refused():
    labels, parts = [0, 1] * 10 + [0] * 5, [TRAIN] * 20 + [TEST] * 5
    with pytest.raises(DataError, match="the test part has no image of class 'b'"):
        division_of(labels, Split(method="given"), parts)


def test_a_class_in_one_group_is_refused():
    labels = np.repeat([0, 1], 50)
    ids = np.concatenate((np.arange(50) // 5, np.full(50, 10))).astype(np.int32)
    split = Split(method="group", test=0.2, group=BY_PATTERN)
    with pytest.raises(DataError, match=r"each class's groups: \{'a': 10, 'b': 1\}"):
        division_of(labels, split, groups=Groups(ids, tuple(map(str, range(11)))))


def test_one_group_is_refused():
    split = Split(method="group", test=0.2, group=BY_PATTERN)
    with pytest.raises(DataError, match=r"each class's groups: \{'a': 1, 'b': 1\}"):
        division_of([0, 1] * 10, split, groups=Groups(np.zeros(20, np.int32), ("0",)))


def test_groups_from_a_manifest():
    manifest = b"\xef\xbb\xbffile,patient\n0/0.png,p2\n./0/1.png,p1\n1/2.png,p2\nother.png,p9\n"
    groups = find_groups(WHERE, listing_of([0, 0, 1]), Group(manifest="m.csv", column="patient"), manifest)
    assert groups.names == ("p1", "p2")
    assert groups.ids.tolist() == [1, 0, 1]


def test_blocks_of_numbers_are_per_class():
    manifest = b"file,number\n0/0.png,9\n0/1.png,10\n1/2.png,11\n"
    groups = find_groups(WHERE, listing_of([0, 0, 1]), Group(manifest="m.csv", column="number", block=10), manifest)
    assert groups.names == ("a/0", "a/1", "b/1")


def test_groups_from_a_pattern():
    groups = find_groups(WHERE, listing_of([0, 0, 1, 1]), Group(pattern=r"/(?P<group>\d)\."), None)
    assert groups.names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("group", "manifest", "message"),
    [
        (Group(manifest="m.csv", column="p"), None, "has no file 'm.csv'"),
        (Group(manifest="m.csv", column="p"), b"file,q\n", "has no column 'p'; it has 'file', 'q'"),
        (Group(manifest="m.csv", column="p"), b"", "has no column 'file', 'p'"),
        (Group(manifest="m.csv", column="p"), b"file,p\n0/0.png,1\n", "gives no 'p' for '1/1.png'"),
        (Group(manifest="m.csv", column="p"), b"file,p\n0/0.png,1\n1/1.png,\n", "gives no 'p' for '1/1.png'"),
        (Group(manifest="m.csv", column="p"), b"file,p\n0/0.png,1\n0/0.png,2\n", "both '1' and '2' for '0/0.png'"),
        (Group(manifest="m.csv", column="p"), b"\xff\xfe\x00", "no UTF-8 CSV file"),
        (
            Group(manifest="m.csv", column="p"),
            b"file,p\n0/0.png,1\n1/1.png,\x002\n",
            "no UTF-8 CSV file \\(it holds NUL",
        ),
        (Group(manifest="m.csv", column="p"), b"file,p,p\n0/0.png,1,2\n1/1.png,2,1\n", "several columns 'p'"),
        (Group(manifest="m.csv", column="p"), b"file,file,p\n0/0.png,1/1.png,1\n", "several columns 'file'"),
        (
            Group(manifest="m.csv", column="p"),
            b"file,name,p\n0/0.png,Roe,1\n1/1.png,Doe, Jane,2\n",
            "line 3 has more values than there are columns",
        ),
        (
            Group(manifest="m.csv", column="p", block=5),
            b"file,p\n0/0.png,1\n1/1.png,one\n",
            "'one' as 'p' of '1/1.png'",
        ),
        (Group(pattern=r"^0/(?P<group>.)"), None, "finds no group in '1/1.png'"),
    ],
)
def test_images_without_a_group_are_refused(group, manifest, message):
    with pytest.raises((DataError, ConfigError), match=message):
        find_groups(WHERE, listing_of([0, 1]), group, manifest)
