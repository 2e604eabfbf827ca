"""Which filters of a network matter: contradictions, interactions, similarity, failures."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from pydyn.report.shapes.read import Analysed
from pydyn.report.tables import NONE, Cell, Table, label, listing, missing, number

# Rows shown of lists that may be long; their CSV files hold all.
MOST_SHOWN = 12


def contradictions_table(one: Analysed) -> Table | None:
    """Filters without which accuracy rises."""
    found = one.summary.contradictions
    if not found:
        return None
    records = [
        {
            "step": c.step,
            "filter": c.filter,
            "accuracy": c.accuracy,
            "without": c.without,
            "gain": c.without - c.accuracy,
        }
        for c in found
    ]
    columns = {
        "step": lambda row: Cell(number(row.step)),
        "filter": lambda row: label(row.filter),
        "accuracy, %": lambda row: Cell(number(100 * row.accuracy, 2)),
        "without it, %": lambda row: Cell(number(100 * row.without, 2)),
        "points": lambda row: Cell(number(100 * row.gain, 2, sign=True)),
    }
    caption = f"{one.name}: contradictions, filters whose removal raises accuracy, strongest first."
    return _shortened(f"shapes-contradictions-{one.file}", caption, records, columns)


def interactions_table(one: Analysed) -> Table | None:
    """Filters whose effect changes when others go."""
    found = one.summary.interactions
    if not found:
        return None
    records = [
        {
            "step": i.step,
            "filter": i.filter,
            "removed": ", ".join(i.removed),
            "before": i.before,
            "after": i.after,
            "change": i.after - i.before,
        }
        for i in found
    ]
    columns = {
        "step": lambda row: Cell(number(row.step)),
        "filter": lambda row: label(row.filter),
        "when this goes": lambda row: label(row.removed),
        "effect before": lambda row: Cell(number(100 * row.before, 2, sign=True)),
        "after": lambda row: Cell(number(100 * row.after, 2, sign=True)),
        "change": lambda row: Cell(number(100 * row.change, 2, sign=True)),
    }
    caption = (
        f"{one.name}: interactions on the way, strongest first. A filter's effect is the accuracy, in points, that is "
        f"lost without it; a change is listed from {100 * one.summary.run.interaction_above:g} points on."
    )
    return _shortened(f"shapes-interactions-{one.file}", caption, records, columns)


def filters_table(one: Analysed) -> Table:
    """Every filter and what it is ranked by."""
    summary = one.summary
    n_first = summary.run.population.layers[0]
    nearest = [
        max((value for column, value in enumerate(row) if column != number_ and value is not None), default=None)
        for matrix in summary.activation_similarity
        for number_, row in enumerate(matrix)
    ]
    steps, norms, activations = (
        summary.scores[name] for name in ("step at which it goes", "L1 norm", "mean activation")
    )
    records = [
        {
            "filter": filter,
            "step": None if filter in summary.left else int(step),
            "l1_norm": norm,
            "l1_rank": 1 + sum(other > norm for other in _layer_of(norms, position, n_first)),
            "mean_activation": activation,
            "most_similar_maps_percent": similar,
        }
        for position, (filter, step, norm, activation, similar) in enumerate(
            zip(summary.filters, steps, norms, activations, nearest, strict=True)
        )
    ]
    columns: dict[str, Callable[[Any], Cell]] = {
        "filter": lambda row: label(row.filter),
        "goes at step": lambda row: missing("stays") if pd.isna(row.step) else Cell(number(row.step)),
        "L1 norm": lambda row: Cell(number(row.l1_norm, 2)),
        "rank in its layer": lambda row: Cell(number(row.l1_rank)),
        "mean activation": lambda row: Cell(f"{row.mean_activation:.3g}"),
        "most similar maps, %": lambda row: _percent(row.most_similar_maps_percent),
    }
    caption = (
        f"{one.name}: every filter, when greedy pruning lets it go, and what it might be told by: the L1 norm of its "
        "kernel with its rank, largest first, its mean activation on the training images, and how similar its maps "
        "are to the most similar filter's."
    )
    return listing(f"shapes-filters-{one.file}", caption, pd.DataFrame(records), columns, folded=len(records) > 12)


def _layer_of(values: list[float], position: int, n_first: int) -> list[float]:
    return values[:n_first] if position < n_first else values[n_first:]


def pairs_table(one: Analysed) -> Table | None:
    """Pairs of the whole network's filters that interact."""
    summary = one.summary
    found: list[dict[str, Any]] = [
        {"first": summary.filters[row], "second": summary.filters[column], "change": change}
        for row, changes in enumerate(summary.pairs)
        for column, change in enumerate(changes[:row])
        if change is not None and round(abs(change), 9) >= summary.run.interaction_above
    ]
    if not found:
        return None
    columns: dict[str, Callable[[Any], Cell]] = {
        "filter": lambda row: label(row.first),
        "and": lambda row: label(row.second),
        "change": lambda row: Cell(number(100 * row.change, 2, sign=True)),
    }
    caption = (
        f"{one.name}: pairs that interact in the whole network, strongest first: how many more points of accuracy "
        "either costs when the other is gone. Above 0: each does the other's work; below: they work together."
    )
    records = sorted(found, key=lambda pair: -abs(pair["change"]))
    return _shortened(f"shapes-pairs-{one.file}", caption, records, columns)


def alike_table(one: Analysed) -> Table | None:
    """Pairs of similar filters."""
    found = one.summary.alike
    if not found:
        return None
    records = [
        {
            "layer": pair.layer,
            "first": pair.first,
            "second": pair.second,
            "kernel_percent": pair.kernel_percent,
            "activation_percent": pair.activation_percent,
        }
        for pair in found
    ]
    columns = {
        "pair": lambda row: label(f"{row.first}, {row.second.removeprefix(f'layer {row.layer} ')}"),
        "kernels, %": lambda row: _percent(row.kernel_percent),
        "maps, %": lambda row: _percent(row.activation_percent),
    }
    caption = (
        f"{one.name}: filters of one layer that are alike, by the cosine of their kernels or the correlation of their "
        f"activation maps over all training images; from {one.summary.run.similar_above:g} % on."
    )
    return _shortened(f"shapes-alike-{one.file}", caption, records, columns)


def ranks_table(one: Analysed) -> Table:
    """Whether rankings agree."""
    records = [
        {
            "layer": rank.layer,
            "first": rank.first,
            "second": rank.second,
            "n_filters": rank.n_filters,
            "spearman": rank.coefficient,
            "p_value": rank.p_value,
        }
        for rank in one.summary.ranks
    ]
    columns = {
        "layer": lambda row: Cell(number(row.layer)),
        "ranking": lambda row: label(row.first),
        "and": lambda row: label(row.second),
        "filters": lambda row: Cell(number(row.n_filters)),
        "Spearman": lambda row: missing(NONE) if pd.isna(row.spearman) else Cell(number(row.spearman, 2, sign=True)),
        "p": lambda row: missing(NONE) if pd.isna(row.p_value) else Cell(f"{row.p_value:.2g}"),
    }
    caption = (
        f"{one.name}: rank correlation within each layer; –: fewer than three filters, or a ranking without "
        "differences. p is exact for up to 8 filters, by Student's t for more, and not adjusted for the number of comparisons."
    )
    return listing(f"shapes-ranks-{one.file}", caption, pd.DataFrame(records), columns, folded=True)


def failures_table(one: Analysed, class_names: tuple[str, ...]) -> Table | None:
    """Misclassified images."""
    found = one.summary.failures
    if not found:
        return None
    records = [
        {
            "image": failure.image,
            "true_class": class_names[failure.true],
            "predicted": class_names[failure.predicted],
            "size": failure.size,
        }
        for failure in found
    ]
    columns: dict[str, Callable[[Any], Cell]] = {
        "image": lambda row: label(row.image),
        "class": lambda row: label(row.true_class),
        "predicted": lambda row: label(row.predicted),
        "size": lambda row: missing(NONE) if pd.isna(row.size) else Cell(number(row.size, 2)),
    }
    caption = (
        f"{one.name}: misclassified images, {number(len(found))} of {number(one.summary.n_images)}, those trained on among them. "
        "Sizes in halves of the image."
    )
    return _shortened(f"shapes-failures-{one.file}", caption, records, columns, folded=True)


def _percent(value: float | None) -> Cell:
    return missing(NONE) if value is None or pd.isna(value) else Cell(number(value, 0))


def _shortened(
    name: str,
    caption: str,
    records: list[dict[str, Any]],
    columns: dict[str, Callable[[Any], Cell]],
    folded: bool = False,
) -> Table:
    """The first rows on the page, all in the CSV file."""
    every = pd.DataFrame(records)
    if len(records) > MOST_SHOWN:
        caption += f" The first {MOST_SHOWN} of {number(len(records))}; the CSV file has all."
    shown = listing(name, caption, every.head(MOST_SHOWN), columns, folded)
    return Table(name, caption, shown.header, shown.body, every, folded)
