"""Greedy pruning: in the form of the thesis's tables, and beside them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import pandas as pd

from pydyn.report.shapes.read import Analysed
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number

# Steps beside one another on an A4 page.
STEPS_WIDE = 9
# An accuracy that a network without filters is held against, in 0..1.
STILL_GOOD = 0.9


def beside_the_thesis(every: Sequence[Analysed]) -> Table:
    """How far networks can be pruned, and the thesis's."""
    records = [
        {
            "network": one.name,
            "filters": len(one.summary.filters),
            **_course([step.removed for step in one.summary.steps], one.after, ""),
            **_course([step.removed for step in one.told], [step.accuracy for step in one.told], "published_"),
        }
        for one in every
    ]
    columns: dict[str, Callable[[Any], Cell]] = {
        "network": lambda row: label(row.network),
        "filters": lambda row: Cell(number(row.filters)),
    }
    for name, title in {
        "steps": "steps",
        "together": "go at step 1",
        "spared": f"gone down to {100 * STILL_GOOD:.0f} %",
        "left_percent": "at the end, %",
    }.items():
        columns[title] = partial(_count, name)
        columns[f"published {title}"] = partial(_count, f"published_{name}")
    caption = (
        "Greedy pruning down to one filter in each layer, beside the thesis's networks of as many filters (its tables 4, 6, "
        "7, 9 to 11): steps; filters that go at the first one, several where each alone can be spared without a mistake; "
        f"filters gone before the accuracy falls below {100 * STILL_GOOD:.0f} %; accuracy at the end. The thesis gives the "
        "accuracy without each filter alone, even where several go together, and does not always remove the filter that "
        "leaves the highest. Its accuracies are multiples of 1/6,000, as of the training images, but those of 2-16 of 1/6,010, "
        "as its validation accuracies on 1.3 are. Its networks are others than ours: it gives no weights."
    )
    return listing("shapes-pruning", caption, pd.DataFrame(records), columns)


def _course(removed: Sequence[Sequence[str]], accuracies: Sequence[float], prefix: str) -> dict[str, float | None]:
    names = ("steps", "together", "spared", "left_percent")
    if not removed:
        return {f"{prefix}{name}": None for name in names}
    good = len(list(takewhile(lambda accuracy: accuracy >= STILL_GOOD, accuracies)))
    values = (len(removed), len(removed[0]), sum(map(len, removed[:good])), 100 * accuracies[-1])
    return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}


def _count(name: str, row: Any) -> Cell:
    value = getattr(row, name)
    if pd.isna(value):
        return missing(NONE)
    return Cell(number(value, 1) if name.endswith("percent") else number(int(value)))


def pruning_tables(one: Analysed) -> Iterator[Table]:
    """The thesis's tables: a row for each filter, a column for each step, `-` for what is gone; parts of a page's width."""
    steps = one.summary.steps
    for start in range(0, len(steps), STEPS_WIDE):
        part = steps[start : start + STEPS_WIDE]
        records = [
            {
                "filter": filter,
                **{f"step_{number_}": step.without.get(filter) for number_, step in enumerate(part, start + 1)},
            }
            for filter in one.summary.filters
        ]
        columns: dict[str, Callable[[Any], Cell]] = {"without": lambda row: label(row.filter)}
        for number_, step in enumerate(part, start + 1):
            columns[f"step {number_}"] = partial(_pruned, f"step_{number_}", step.removed)
        before = ", ".join(f"{100 * step.accuracy:.2f}" for step in part)
        first = (
            f"{one.name}: accuracy in percent on the {number(one.summary.n_pruned_by)} training images without each "
            "filter that remains; the filter whose row says “goes” is removed at that step, and the network is "
            "smaller from then on."
            if start == 0
            else f"{one.name}, continued."
        )
        caption = f"{first} Accuracy before these steps: {before} %."
        name = f"shapes-pruning-{one.file}-{start // STEPS_WIDE + 1}"
        yield listing(name, caption, pd.DataFrame(records), columns, folded=start > 0)


def _pruned(column: str, removed: list[str], row: Any) -> Cell:
    value = getattr(row, column)
    if pd.isna(value):
        return missing("-")
    return Cell(f"{100 * value:.2f}", "goes" if row.filter in removed else "")
