"""The proposed method less fine-tuning: accuracy, time, emissions, beside what the paper says of its four backbones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import pandas as pd

from pydyn.report import published
from pydyn.report.frugal.read import (
    FrugalResults,
    Row,
    Value,
    accuracy,
    fine_tuning_of,
    kg_co2,
    on_one_machine,
    proposed_of,
    seconds,
)
from pydyn.report.statistics import Estimate, estimate
from pydyn.report.tables import NONE, Cell, Table, beside, label, listing, missing, number, spread, with_interval

QUANTITIES: dict[str, tuple[str, bool]] = {
    "accuracy_change_points": ("accuracy, points", True),
    "training_time_reduction_percent": ("less time, %", False),
    "emissions_reduction_percent": ("less CO2, %", False),
}
"""As published: what each is called, and whether it is shown with its sign."""


@dataclass(frozen=True)
class Change:
    """Of one data set and kind of division: for one backbone over the replicates, or for several over the backbones."""

    dataset: str
    splits: str
    backbones: tuple[str, ...]
    labels: tuple[str, ...]
    found: Mapping[str, Estimate | None]
    """By quantity; None without readings, or where seconds do not compare. Over backbones without an interval."""
    compares: bool
    """Whether seconds and emissions are of one machine."""

    @property
    def name(self) -> str:
        """The backbone, or how many they are."""
        return self.labels[0] if len(self.labels) == 1 else f"mean of {len(self.labels)} backbones"


def changes(results: FrugalResults) -> list[Change]:
    """By data set and kind of division, backbones first and then, of several, their mean."""
    found: dict[tuple[str, str], list[Change]] = {}
    for (dataset, backbone, splits), rows in results.places().items():
        ours, rival = proposed_of(rows), fine_tuning_of(rows)
        change = ours.against(rival, accuracy) if ours and rival else None
        if ours is None or rival is None or change is None:
            continue
        amounts = (change, reductions(ours, rival, seconds), reductions(ours, rival, kg_co2))
        one = Change(
            dataset,
            splits,
            (ours.run.backbone.name,),
            (backbone,),
            dict(zip(QUANTITIES, amounts, strict=True)),
            on_one_machine(ours, rival),
        )
        found.setdefault((dataset, splits), []).append(one)
    return [change for alike in found.values() for change in [*alike, *_over_backbones(alike)]]


def _over_backbones(alike: Sequence[Change]) -> list[Change]:
    """The mean over several backbones, the paper's alone if all of these are there; none for one backbone."""
    names = {change.backbones[0] for change in alike}
    is_published = all(names & set(one_of) for one_of in published.FRUGAL_FOUR)
    chosen = [change for change in alike if not is_published or change.backbones[0] in published.FRUGAL_BACKBONES]
    if len(chosen) < 2:
        return []
    found: dict[str, Estimate | None] = {}
    for quantity in QUANTITIES:
        amounts = [amount.mean for change in chosen if (amount := change.found[quantity])]
        whole = len(amounts) == len(chosen)
        found[quantity] = Estimate(len(amounts), mean(amounts), stdev(amounts), None) if whole else None
    return [
        Change(
            chosen[0].dataset,
            chosen[0].splits,
            tuple(change.backbones[0] for change in chosen),
            tuple(change.labels[0] for change in chosen),
            found,
            all(change.compares for change in chosen),
        )
    ]


def published_beside(change: Change, every: Sequence[Change], quantity: str) -> tuple[float, float] | None:
    """The published mean over four backbones and its std: beside the mean here, or beside the only backbone there is."""
    several = any(
        len(other.labels) > 1 for other in every if (other.dataset, other.splits) == (change.dataset, change.splits)
    )
    return published.frugal_change(change.dataset, quantity) if several == (len(change.labels) > 1) else None


def change_table(results: FrugalResults) -> Table | None:
    """The proposed method less fine-tuning, beside the published means over four backbones; None if no place has both."""
    every = changes(results)
    if not every:
        return None
    records = []
    for change in every:
        record: dict[str, Any] = {
            "dataset": change.dataset,
            "backbone": change.name,
            "splits": change.splits,
            "n": next(found.n for found in change.found.values() if found),
            "note": _note(change),
            "compares": change.compares,
        }
        for quantity, found in change.found.items():
            told = published_beside(change, every, quantity)
            record |= spread(quantity, found) | {
                f"published_{quantity}_mean": told[0] if told else None,
                f"published_{quantity}_std": told[1] if told else None,
            }
        records.append(record)
    columns: dict[str, Callable[[Any], Cell]] = {"data set": lambda row: label(row.dataset, row.note)}
    for quantity, (title, signed) in QUANTITIES.items():
        columns |= {title: _measured(quantity, signed), f"published {title}": _told(quantity, signed)}
    caption = (
        "The proposed method (adapted, redesigned head, weighted) less fine-tuning, paired by replicate: mean ± half-width of "
        "the 95 % interval; of several backbones their mean, and the standard deviation between them. Published: mean and std "
        "over resnet18, resnet50, densenet121 and mobilenet_v3, on an RTX 4060, of BreakHis and of Rahman's Brain Cancer MRI, of "
        "which the images here may be a part, or stand in for it; the paper does not say how it split them."
    )
    return listing("frugal-changes", caption, pd.DataFrame(records), columns)


def mean_sentences(results: FrugalResults) -> Iterator[str]:
    """What came out over several backbones, beside what is published over four."""
    for change in changes(results):
        found = change.found["accuracy_change_points"]
        if len(change.labels) == 1 or change.splits != results.main_splits or found is None:
            continue
        said = [f"{number(found.mean, 2, sign=True)} points of accuracy (std between them {number(found.std or 0, 2)})"]
        for quantity, what in (("training_time_reduction_percent", "time"), ("emissions_reduction_percent", "CO2")):
            if amount := change.found[quantity]:
                said.append(f"{_less(amount.mean, None)} {what}")
        told = [published.frugal_change(change.dataset, quantity) for quantity in QUANTITIES]
        there = [known[0] for known in told if known]
        beside_it = (
            f"; published over four: {number(there[0], 2, sign=True)} points, {number(there[1], 2)} and {number(there[2], 2)} %"
            if there
            else ""
        )
        yield f"{change.dataset}, {change.name}, against fine-tuning: {', '.join(said)}{beside_it}."


def saved(ours: Row, rival: Row) -> str:
    """As `with 88.2 ± 3.1 % less time and 89.0 ± 2.9 % less CO2`."""
    time, emissions = reductions(ours, rival, seconds), reductions(ours, rival, kg_co2)
    if time is None:
        return "trained on other machines or moved, so that time is not compared"
    less = f"{_less(time.mean, time.half_width)} time"
    return f"with {less}" + (f" and {_less(emissions.mean, emissions.half_width)} CO2" if emissions else "")


def _less(percent: float, half_width: float | None) -> str:
    return f"{with_interval(abs(percent), half_width, 1)} % {'less' if percent >= 0 else 'more'}"


def _note(change: Change) -> str:
    if len(change.labels) == 1:
        n = next(found.n for found in change.found.values() if found)
        return f"{change.name}, {change.splits} split, n = {n}"
    return f"{change.name} ({', '.join(change.labels)}), {change.splits} split"


def _measured(quantity: str, signed: bool) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        amount, half_width = getattr(row, f"{quantity}_mean"), getattr(row, f"{quantity}_half_width_95")
        if amount is None or pd.isna(amount):
            return missing("no reading" if row.compares else "not on one machine")
        between = row.backbone.startswith("mean of")
        note = f"std {getattr(row, f'{quantity}_std'):.2f}" if between else beside(half_width, 2)
        return Cell(number(amount, 2, sign=signed), note)

    return cell


def _told(quantity: str, signed: bool) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        mean_ = getattr(row, f"published_{quantity}_mean")
        if mean_ is None or pd.isna(mean_):
            return missing(NONE)
        return Cell(number(mean_, 2, sign=signed), f"std {getattr(row, f'published_{quantity}_std'):.2f}")

    return cell


def reductions(ours: Row, rival: Row, value: Value) -> Estimate | None:
    """By how much less, in percent of fine-tuning, paired by replicate; None without readings, or of several machines."""
    theirs = rival.by_seed(value)
    found = [100 * (1 - amount / theirs[seed]) for seed, amount in ours.by_seed(value).items() if seed in theirs]
    if not found or any(pd.isna(found)) or not on_one_machine(ours, rival):
        return None
    return estimate(found)
