"""What the study's Runs say, in sentences: who is ahead, by how much, and what that is worth."""

from collections.abc import Iterator

from pydyn.report.dynamic.differences import chance, paired, sentences
from pydyn.report.dynamic.names import PROTOCOLS, row_names
from pydyn.report.paired import NO_CLAIM, in_words
from pydyn.report.results import Replicates, StudyResults, accuracy_percent, reported_images
from pydyn.report.tables import capitalised, number, share, with_interval
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.run import Run


def findings(results: StudyResults) -> Iterator[str]:
    """The grid speaks only where no comparison ran; replicates and augmented images always do, each under its name."""
    # The untouched test set speaks first: the maximum over epochs of the other protocol is optimistic.
    protocols = [result.run.protocol for result in results.results]
    protocol = "holdout" if "holdout" in protocols else "paper"
    if rows := results.replicates("comparison", protocol):
        yield from _ranking(rows, protocol)
    elif cells := results.replicates("grid", protocol):
        yield _grid_finding(cells, protocol)
    if rows := results.replicates("robustness", protocol):
        name = "Experiment 3, replicates: "
        # Presets may take the comparison's Runs: what it says is not said twice.
        ranking = (
            [] if _runs_of(rows) <= _runs_of(results.replicates("comparison", protocol)) else _ranking(rows, protocol)
        )
        yield from (name + sentence for sentence in [*ranking, _spread(rows)])
    if rows := results.replicates("augmentation", protocol):
        name = "Experiment 4, augmented images: "
        yield from (name + sentence for sentence in [*_ranking(rows, protocol), *_worth(results, rows, protocol)])


def _runs_of(rows: list[Replicates]) -> set[Run]:
    """Of all rows and seeds."""
    return {result.run for row in rows for result in row.results}


def _ranking(rows: list[Replicates], protocol: str) -> Iterator[str]:
    """The highest of the rows, and every dynamic strategy against its controls."""
    names = row_names(rows)
    estimates = [row.estimate(accuracy_percent) for row in rows]
    best, *others = sorted(range(len(rows)), key=lambda position: -estimates[position].mean)
    measured = estimates[best]
    value = with_interval(measured.mean, measured.half_width, 1)
    n_images = reported_images(rows[best].results[0].summary)
    basis = f"mean of {measured.n} Runs, {n_images:,} test images" if measured.n > 1 else NO_CLAIM
    if measured.half_width is not None:
        basis = f"mean and 95 % interval over the seeds of {measured.n} Runs, {n_images:,} test images"
    basis += _OPTIMISM[protocol]
    if others:
        yield (
            f"Highest accuracy under {PROTOCOLS[protocol]}: {names[best]}, {value} % ({basis}). "
            f"{_ahead(rows[best], rows[others[0]], names[others[0]])}"
        )
    else:
        yield f"Accuracy under {PROTOCOLS[protocol]}: {names[best]}, {value} % ({basis})."
    yield from sentences(rows, names)
    if told := chance(rows):
        yield told


_OPTIMISM = {"holdout": "", "paper": "; the maximum over the epochs, on the images that steer: optimistic"}


def _ahead(best: Replicates, second: Replicates, name: str) -> str:
    """What the highest of several rows is worth."""
    difference = paired(best, second)
    if difference is None:
        return f"Not compared with the runner-up, {name}: they share no seed."
    if difference.verdict != "holds":
        return f"It is not shown to differ from the runner-up, {name}: {in_words(difference)}."
    picked = "It was picked as the highest of several, and such a one tends to lie above its own mean by chance."
    return f"Against the runner-up, {name}: {in_words(difference)}. {picked}"


def _spread(rows: list[Replicates]) -> str:
    """How far apart replicates end: what experiment 3 is for."""
    parts = []
    for row, name in zip(rows, row_names(rows), strict=True):
        accuracies = row.by_seed(accuracy_percent).values()
        if len(accuracies) == 1:
            parts.append(f"{name}, one Run, no spread")
            continue
        ends = f"{number(min(accuracies), 1)} to {number(max(accuracies), 1)} %"
        parts.append(
            f"{name}, {number(row.estimate(accuracy_percent).std or 0.0, 2)} points ({ends}, n = {len(accuracies)})"
        )
    claim = " Nothing is claimed of whose is larger." if len(parts) > 1 else ""
    return f"Standard deviation of the accuracy over the seeds, and lowest to highest: {'; '.join(parts)}.{claim}"


def _worth(results: StudyResults, rows: list[Replicates], protocol: str) -> Iterator[str]:
    """Augmented Runs against the same without, where both ran."""
    plain = [row for experiment in ("comparison", "robustness") for row in results.replicates(experiment, protocol)]
    parts = []
    for row, name in zip(rows, row_names(rows), strict=True):
        same = [
            other for other in plain if (other.run.strategy, other.run.epochs) == (row.run.strategy, row.run.epochs)
        ]
        twin = max(same, key=lambda other: len(other.results), default=None)
        if twin and (difference := paired(row, twin)):
            parts.append(f"{name}, {in_words(difference)}")
    if parts:
        yield f"{capitalised('; '.join(parts))}: each against the same without augmentation."


def _grid_finding(cells: list[Replicates], protocol: str) -> str:
    best = max(cells, key=lambda cell: cell.estimate(accuracy_percent).mean)
    strategy, measured = best.run.strategy, best.estimate(accuracy_percent)
    assert isinstance(strategy, Dynamic)
    where = (
        f"α = {best.n_subset:,} images ({share(best.share)} of the pool), β = {strategy.beta:g}, γ = {strategy.gamma:g}"
    )
    interval = f" (n = {measured.n})" if measured.n > 1 else f"; {NO_CLAIM}"
    value = with_interval(measured.mean, measured.half_width, 1)
    return (
        f"Highest of {len(cells)} cells under {PROTOCOLS[protocol]}: {where} with {value} %{interval}"
        f"{_OPTIMISM[protocol]}. The highest of many tends to lie above its own mean by chance."
    )
