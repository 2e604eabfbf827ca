"""How good heads on frozen features are, beside fine-tuning."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pydyn.report.figures import COLOURS, PAGE_WIDTH, Drawing, finish, style
from pydyn.report.frugal.names import SPLITS
from pydyn.report.frugal.read import (
    FrugalResults,
    Row,
    Value,
    accuracy,
    balanced_accuracy,
    fine_tuning_of,
    proposed_of,
)
from pydyn.report.paired import difference_columns, in_words, interval_cell
from pydyn.report.statistics import Estimate, estimate, share_interval
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number, spread, with_interval

MEASURES: dict[str, tuple[str, Value, int]] = {
    "accuracy_percent": ("accuracy, %", accuracy, 1),
    "balanced_accuracy_percent": ("balanced accuracy, %", balanced_accuracy, 1),
    "macro_f1_percent": ("macro F1, %", lambda summary: 100 * summary.test.macro_f1, 1),
    "auroc": ("AUROC", lambda summary: _or_nan(summary.test.auroc), 3),
    "ece": ("ECE", lambda summary: summary.test.ece, 3),
    "group_accuracy_percent": ("by group, %", lambda summary: 100 * _or_nan(summary.test.group_accuracy), 1),
}

# A class with so many times its even share of the test images lends its size to accuracy.
UNEVEN = 1.5

ALL_PARTS = [
    (adapted, redesigned, weighted)
    for adapted in (False, True)
    for redesigned in (False, True)
    for weighted in (False, True)
]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def accuracy_table(place: tuple[str, str, str], rows: Sequence[Row]) -> Table:
    """Every setting of a place, with all metrics."""
    dataset, backbone, splits = place
    grouped = any(summary.test.n_groups for row in rows for summary in row.results)
    measures = {name: measure for name, measure in MEASURES.items() if grouped or not name.startswith("group")}
    records = []
    for row in rows:
        record: dict[str, Any] = {"setting": row.run.setting, "what": row.name, "n": len(row.results)}
        for name, (_, value, _) in measures.items():
            record |= spread(name, row.estimate(value))
        records.append(record)
    columns: dict[str, Callable[[Any], Cell]] = {
        "": lambda row: label(row.what, f"n = {row.n}"),
        **{title: _measure(name, decimals) for name, (title, _, decimals) in measures.items()},
    }
    tests = sorted({summary.n_test for row in rows for summary in row.results})
    n_test = f"{tests[0]:,}" if len(tests) == 1 else f"{tests[0]:,} to {tests[-1]:,}"
    groups = (
        "By group: mean over groups (patients, say) of the share of their images that are right. " if grouped else ""
    )
    caption = (
        f"Test images of {dataset}, {SPLITS[splits]}, {backbone}: means over the replicates (n) ± half-width "
        f"of the 95 % interval. {_what_intervals_hold(rows[0], n_test)} {groups}ECE: expected calibration error, 15 bins."
    )
    return listing(f"frugal-accuracy-{dataset}-{backbone}-{splits}", caption, pd.DataFrame(records), columns)


def _what_intervals_hold(row: Row, n_test: str) -> str:
    if row.given:
        return (
            f"All replicates have the {n_test} test images that came with the data: intervals hold the luck of the training, "
            "not that of the test images."
        )
    return (
        f"Each replicate divides the images anew ({n_test} test images): intervals hold the luck of the division as well as of "
        "the training, and are widened for the images that replicates share (corrected resampled t, Nadeau and Bengio 2003)."
    )


def majority_sentences(results: FrugalResults) -> Iterator[str]:
    """Of test images of which far more are of one class than of others: what it takes to be right on so many."""
    first: dict[str, Row] = {}
    for (dataset, _, splits), rows in results.places().items():
        if splits == results.main_splits:
            first.setdefault(dataset, rows[0])
    for dataset, row in first.items():
        counts = np.sum([summary.test.confusion for summary in row.results], axis=(0, 2))
        share, n_classes = counts.max() / counts.sum(), len(counts)
        if share * n_classes >= UNEVEN:
            name = results.data[dataset].class_names[int(counts.argmax())]
            yield (
                f"{dataset}: {number(100 * share, 1)} % of the test images are of class {name}. To say so of every image is "
                f"right on as many, with a balanced accuracy of {number(100 / n_classes, 1)} %: go by the balanced accuracy."
            )


def sampling_sentences(results: FrugalResults) -> Iterator[str]:
    """What so few test images leave open by themselves, where no interval over replicates holds it: all replicates have the same
    ones, or are equal, or there is one. Not of groups, whose images go together."""
    for (dataset, backbone, splits), rows in results.places().items():
        ours = proposed_of(rows)
        if ours is None or splits != results.main_splits or any(summary.test.n_groups for summary in ours.results):
            continue
        reached = ours.estimate(accuracy)
        assert reached is not None
        if not ours.given and reached.half_width is not None:
            continue
        n_test = min(summary.n_test for summary in ours.results)
        low, high = (number(100 * end, 1) for end in share_interval(reached.mean / 100 * n_test, n_test))
        yield (
            f"{dataset}, {backbone}: {n_test:,} test images by themselves leave open whether the proposed method is right on "
            f"{low} or on {high} % of such images (Wilson's 95 % interval at its mean), which figures over "
            "replicates do not hold."
        )


def _measure(name: str, decimals: int) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        mean = getattr(row, f"{name}_mean")
        if mean is None or pd.isna(mean):
            return missing(NONE)
        return Cell(with_interval(mean, getattr(row, f"{name}_half_width_95"), decimals))

    return cell


def parts_table(place: tuple[str, str, str], rows: Sequence[Row]) -> Table | None:
    """What each part of the method is worth: the proposed setting with and without it, and the mean over the others.

    None if too few heads are there.
    """
    dataset, backbone, splits = place
    heads = {row.parts: row for row in rows if not row.is_fine_tuning}
    records = []
    for position, part in enumerate(("adaptation", "redesigned head", "weighting")):
        for where, pairs in {
            "the rest as proposed": [(True, True, True)],
            "over all settings of the rest": [parts for parts in ALL_PARTS if parts[position]],
        }.items():
            if not all({on, _without(on, position)} <= heads.keys() for on in pairs):
                continue
            difference = _mean_difference(
                [(heads[on], heads[_without(on, position)]) for on in pairs], balanced_accuracy
            )
            if difference is None:
                continue
            records.append({"part": part, "where": where, **difference_columns(difference)})
    if not records:
        return None
    columns = {
        "with less without": lambda row: label(row.part),
        "": lambda row: label(row.where),
        "n": lambda row: Cell(number(row.pairs)),
        "points": lambda row: Cell(number(row.difference_points, 2, sign=True)),
        "95 % interval": lambda row: interval_cell(row.interval_low, row.interval_high),
        "verdict": lambda row: label(row.verdict),
    }
    caption = (
        f"What each part of the method is worth on {dataset}, {SPLITS[splits]}, {backbone}: differences of balanced accuracy in "
        "points, paired by replicate (over all settings: the mean of a replicate's four differences). Intervals are not adjusted "
        "for the number of comparisons."
    )
    return listing(f"frugal-parts-{dataset}-{backbone}-{splits}", caption, pd.DataFrame(records), columns)


def parts_sentences(results: FrugalResults) -> Iterator[str]:
    """Each part by data set, over all settings of the rest and all backbones: these share images, so a replicate is one value."""
    places = [(place, rows) for place, rows in results.places().items() if place[2] == results.main_splits]
    for position, part in enumerate(
        ("adaptation of batch normalisation", "the redesigned head", "ambiguity weighting")
    ):
        worth = []
        for dataset in dict.fromkeys(place[0] for place, _ in places):
            of_backbones = [
                {row.parts: row for row in rows if not row.is_fine_tuning}
                for place, rows in places
                if place[0] == dataset
            ]
            pairs = [
                (heads[on], heads[_without(on, position)])
                for heads in of_backbones
                if len(heads) == len(ALL_PARTS)
                for on in ALL_PARTS
                if on[position]
            ]
            if found := _mean_difference(pairs, balanced_accuracy):
                worth.append(f"on {dataset} {in_words(found)}")
        if worth:
            over = " (mean over backbones)" if len(results.study.backbones) > 1 else ""
            yield f"In balanced accuracy{over}, {part} is worth {'; '.join(worth)}."


def _without(parts: tuple[bool, bool, bool], position: int) -> tuple[bool, bool, bool]:
    adapted, redesigned, weighted = (on and at != position for at, on in enumerate(parts))
    return adapted, redesigned, weighted


def _mean_difference(pairs: Sequence[tuple[Row, Row]], value: Value) -> Estimate | None:
    """Of pairs of rows of one data set, over the replicates of which every pair is there; None if there are none."""
    by_seed: dict[int, list[float]] = {}
    for on, off in pairs:
        theirs = off.by_seed(value)
        for seed, ours in on.by_seed(value).items():
            if seed in theirs:
                by_seed.setdefault(seed, []).append(ours - theirs[seed])
    whole = [differences for differences in by_seed.values() if len(differences) == len(pairs)]
    return estimate([float(np.mean(differences)) for differences in whole], pairs[0][0].redrawn) if whole else None


def accuracy_drawing(places: dict[tuple[str, str, str], list[Row]], dataset: str, backbone: str) -> Drawing:
    """Every setting with its interval; the replicates as dots."""
    has_rival = any(fine_tuning_of(rows) for place, rows in places.items() if place[:2] == (dataset, backbone))
    with style():
        figure = accuracy_figure(places, dataset, backbone)
        caption = (
            f"Balanced accuracy on test images of {dataset}, {backbone}: mean and 95 % interval over the replicates, "
            f"the small dots below. {'Dashed: the mean of fine-tuning. ' if has_rival else ''}Intervals may leave the picture."
        )
        return finish(f"frugal-accuracy-{dataset}-{backbone}", caption, figure)


def accuracy_figure(places: dict[tuple[str, str, str], list[Row]], dataset: str, backbone: str) -> Figure:
    """A panel for each kind of division, settings at the same height in all. To be called inside `style()`."""
    kinds = [splits for name, label_, splits in places if (name, label_) == (dataset, backbone)]
    # Of a partial study, one kind may have settings that another has not.
    names = list(dict.fromkeys(row.name for splits in kinds for row in places[dataset, backbone, splits]))
    figure = Figure(figsize=(PAGE_WIDTH, 0.9 + 0.3 * len(names)))
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axis, splits in zip(axes, kinds, strict=True):
        rows = places[dataset, backbone, splits]
        rival = fine_tuning_of(rows)
        if rival and (found := rival.estimate(balanced_accuracy)):
            axis.axvline(found.mean, color="#aaaaaa", linewidth=1, linestyle=(0, (4, 3)))
        for row in rows:
            found, height = row.estimate(balanced_accuracy), names.index(row.name)
            if found is None:
                continue
            colour = COLOURS[0] if row.is_fine_tuning else COLOURS[1] if row.is_proposed else COLOURS[2]
            values = list(row.by_seed(balanced_accuracy).values())
            axis.plot(values, [height + 0.22] * len(values), ".", color=colour, alpha=0.5, markersize=4)
            axis.errorbar(found.mean, height, xerr=found.half_width, fmt="o", color=colour, markersize=4, capsize=2)
        axis.set_title(SPLITS[splits])
        axis.set_xlabel("balanced accuracy, %")
        # An interval of few replicates may reach beyond what an accuracy can be.
        lowest = min(min(row.by_seed(balanced_accuracy).values()) for row in rows)
        axis.set_xlim(max(0.0, lowest - 15), 102)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure
