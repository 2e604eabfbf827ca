"""Division of images into training, validation and test images, and what a limit keeps of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from pydyn.config.datasets import Limit, Split
from pydyn.data.groups import NO_GROUP, Groups
from pydyn.data.listing import LEFT_BY_TEST, PARTS, TEST, TRAIN, VALIDATION, Listing, share_count, some
from pydyn.errors import ConfigError, DataError
from pydyn.seeding import derive_seed, numpy_generator

# A share of groups is approximated by whole folds; more folds than this would leave too few groups in each.
MAX_FOLDS = 20

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """The images that are kept, and their parts."""

    rows: IntArray
    """(N,), ascending positions in the listing."""
    parts: NDArray[np.uint8]
    """(N,), TRAIN, VALIDATION or TEST."""


def divide(where: str, listing: Listing, groups: Groups, split: Split, limit: Limit, redrawn: bool = False) -> Division:
    """Divide the images of a listing as declared; every draw is keyed by `split.seed` and its purpose.

    Divisions by groups that differ in the seed alone are much alike, for groups are dealt out by size: with `redrawn` the
    seed also decides which of the folds that they are dealt to make a part.

    First the test images are set apart, then the limits draw by class, then the validation images are carved from the
    training images that are left, unless the source gives its own. Drawing by class gives each class its share,
    rounded, and at least one image; a smaller limit keeps a subset of what a larger one keeps.

    Raises DataError if a part would lack a class, ConfigError if a limit cannot be met; both begin with `where`.
    """
    require_divisible(where, listing, split)
    parts = listing.parts.astype(np.int64)
    if split.test is not None:
        parts[:] = TRAIN
        parts[_carve(where, listing, groups, np.arange(len(parts)), split, "test", redrawn)] = TEST
    given_validation = bool((parts == VALIDATION).any())

    pool = _limited(where, listing, parts, np.flatnonzero(parts != TEST), limit.train, split.seed, "train")
    test = _limited(where, listing, parts, np.flatnonzero(parts == TEST), limit.test, split.seed, "test")
    if not given_validation:
        _require_of_each(where, listing, pool, 2, None if limit.train is None else "train")
        parts[_carve(where, listing, groups, pool, split, "validation", redrawn)] = VALIDATION
    rows = np.sort(np.concatenate((pool, test)))
    division = Division(rows, parts[rows].astype(np.uint8))
    check_division(where, listing.class_names, listing.labels[rows], division.parts, groups.ids[rows], groups.names)
    return division


def require_divisible(where: str, listing: Listing, split: Split) -> None:
    """Refuse a listing with too few images of a class for all parts, whatever is drawn. Raises DataError."""
    _require_of_each(where, listing, np.arange(len(listing.paths)), 2 if split.test is None else 1 + LEFT_BY_TEST, None)


def check_limit(
    where: str,
    part: str,
    limit: int,
    least: int,
    n_classes: int,
    most: int,
    told: str = "the number of images there are",
) -> None:
    """Refuse a limit that a part of at most so many images (`told` says what that is) cannot meet. Raises ConfigError."""
    if not least <= limit <= most:
        raise ConfigError(
            f"{where}: `limit.{part}: {limit}` must be from {least} ({n_classes} classes) to {most}, {told}"
        )


def too_few(where: str, found: str, least: int, limited: str | None) -> DataError:
    """The error that a part, which `limit` keeps small if it is named, has fewer images than each class needs."""
    remedy = f"add images or raise `limit.{limited}`" if limited else "add images"
    return DataError(
        f"{where}: too few images to divide into parts, {found}; each class needs at least {least}; {remedy}"
    )


def check_division(
    where: str,
    class_names: tuple[str, ...],
    labels: IntArray,
    parts: NDArray[np.uint8],
    group_ids: NDArray[np.int32],
    group_names: tuple[str, ...],
) -> None:
    """Refuse a division (arrays of shape (N,)) in which a part lacks a class or a group is in two parts.

    Raises DataError, which begins with `where`.
    """
    for part, part_name in enumerate(PARTS):
        counts = np.bincount(labels[parts == part], minlength=len(class_names))
        if lacking := [name for name, count in zip(class_names, counts, strict=True) if count == 0]:
            n_groups = {name: len(np.unique(group_ids[labels == class_names.index(name)])) for name in lacking}
            held = f" (groups that hold it: {n_groups})" if group_names else ""
            raise DataError(
                f"{where}: the {part_name} part has no image of class {some(lacking)}{held}; give that class more "
                "images or groups, or change `split.test`, `split.validation`, `split.seed` or `limit`"
            )
    for group in np.unique(group_ids[group_ids != NO_GROUP]):
        held_by = np.unique(parts[group_ids == group])
        if len(held_by) > 1:
            raise DataError(f"{where}: group {group_names[group]!r} is in {some([PARTS[part] for part in held_by])}")


def draw_by_stratum(strata: IntArray, count: int, generator: np.random.Generator, leave: int = 0) -> IntArray:
    """Draw `count` of N images so that each stratum gives its share, rounded, but at least one and all but `leave`.

    `strata` has shape (N,) and one whole number per image; drawn are ascending positions (count,). scikit-learn's
    stratified splits refuse to leave fewer images than there are classes, and a rare class may get none of them.
    """
    names, members = np.unique(strata, return_inverse=True)
    available = np.bincount(members, minlength=len(names))
    quotas = _quotas(available, count, leave)
    drawn = [generator.permutation(np.flatnonzero(members == i))[: quotas[i]] for i in range(len(names))]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _quotas(available: IntArray, count: int, leave: int) -> IntArray:
    total = available.sum()
    upper = available - leave
    quotas: IntArray = np.clip(available * count // total, 1, upper)
    # In units of 1 / total, so that no rounding of floats decides.
    while (short := count - quotas.sum()) != 0:
        due = (available * count - quotas * total) * np.sign(short)
        open_to_change = quotas < upper if short > 0 else quotas > 1
        quotas[np.argmax(np.where(open_to_change, due, due.min() - 1))] += np.sign(short)
    return quotas


def _carve(
    where: str,
    listing: Listing,
    groups: Groups,
    pool: IntArray,
    split: Split,
    part: Literal["test", "validation"],
    redrawn: bool,
) -> IntArray:
    """Choose the members of `pool` that make the test or validation part."""
    share, leave = (split.validation, 1) if part == "validation" else (cast(float, split.test), LEFT_BY_TEST)
    if split.method != "group":
        count = share_count(len(pool), share, len(listing.class_names), leave)
        return pool[draw_by_stratum(listing.labels[pool], count, numpy_generator(split.seed, part), leave)]
    labels, group_ids = listing.labels[pool], groups.ids[pool]
    folds_drawn_by = numpy_generator(split.seed, part, "folds") if redrawn else None
    mask = _whole_groups(labels, group_ids, share, leave, derive_seed(split.seed, part) % 2**32, folds_drawn_by)
    if mask is None:
        counts = {name: len(np.unique(group_ids[labels == label])) for label, name in enumerate(listing.class_names)}
        raise DataError(
            f"{where}: no choice of whole groups for `split.{part}: {share}` gives every class to all parts; each class's "
            f"groups: {counts}; add groups, or change the share or `split.seed`"
        )
    return pool[mask]


def _whole_groups(
    labels: IntArray,
    group_ids: NDArray[np.int32],
    share: float,
    leave: int,
    seed: int,
    folds_drawn_by: np.random.Generator | None,
) -> NDArray[np.bool_] | None:
    """A mask of whole groups that make about `share` of the images: at least one group of each class, all but `leave`.

    Folds are balanced by class; as many as come closest to the share are taken, the first ones or those that a generator draws.
    None if no number of them will do.
    """
    # Imported here because it takes a second, and most splits do without.
    from sklearn.model_selection import StratifiedGroupKFold

    classes = np.unique(labels)
    # Neither fewer groups than folds nor classes smaller than that: scikit-learn refuses both.
    most_folds = int(min(MAX_FOLDS, len(np.unique(group_ids)), np.bincount(labels).max()))
    if most_folds < 2:
        return None
    taken, n_folds = Fraction(share).limit_denominator(most_folds).as_integer_ratio()
    if not 0 < taken < n_folds:
        taken, n_folds = (1 if taken == 0 else most_folds - 1), most_folds
    folds = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # A class with fewer images than folds is fine as long as every part has it, which is looked at below.
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (_, members) in enumerate(splitter.split(labels, labels, group_ids)):
            folds[members] = fold
    if folds_drawn_by is not None:
        # The splitter deals the groups that sway the balance most first and in order: they would be in the first folds always.
        folds = folds_drawn_by.permutation(n_folds)[folds]

    def fewest_groups(mask: NDArray[np.bool_]) -> int:
        return min(len(np.unique(group_ids[mask & (labels == label)])) for label in classes)

    for n_taken in sorted(range(1, n_folds), key=lambda n: abs(n - taken)):
        for first in range(n_folds):
            mask: NDArray[np.bool_] = (folds - first) % n_folds < n_taken
            if fewest_groups(mask) >= 1 and fewest_groups(~mask) >= leave:
                return mask
    return None


def _limited(
    where: str, listing: Listing, parts: IntArray, pool: IntArray, limit: int | None, seed: int, part: str
) -> IntArray:
    if limit is None or limit == len(pool):
        return pool
    # A given validation part keeps its share of the training images.
    strata = listing.labels[pool] * len(PARTS) + parts[pool]
    check_limit(where, part, limit, len(np.unique(strata)), len(listing.class_names), len(pool))
    return pool[draw_by_stratum(strata, limit, numpy_generator(seed, "limit", part))]


def _require_of_each(where: str, listing: Listing, rows: IntArray, least: int, limited: str | None) -> None:
    counts = np.bincount(listing.labels[rows], minlength=len(listing.class_names)).tolist()
    scarce = {name: count for name, count in zip(listing.class_names, counts, strict=True) if count < least}
    if scarce:
        raise too_few(where, f"in classes {scarce}", least, limited)
