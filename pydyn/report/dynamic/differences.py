"""Paired differences between strategies: as a table, and as sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pandas as pd

from pydyn.report.dynamic.names import PROTOCOLS
from pydyn.report.paired import NO_CLAIM, difference_columns, interval_cell
from pydyn.report.results import Replicates, accuracy_percent, total_seconds
from pydyn.report.statistics import LEVEL, Estimate, paired_difference
from pydyn.report.tables import Cell, Table, capitalised, label, listing, number, share, time_share
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.registry import STRATEGIES

# What Dynamic Training has to beat, the plainest first: whatever else there is.
CONTROLS = tuple(kind for kind in STRATEGIES.values() if kind is not Dynamic)

images_trained = attrgetter("images_trained")


# The plainest Dynamic Training, as published first: what its variants have to beat.
PLAIN: dict[str, Any] = {"scheme": "base", "trigger": "absolute", "replacements": "uniform"}

_COLUMNS = (
    "strategy",
    "against",
    "pairs",
    "difference_points",
    "std",
    "interval_low",
    "interval_high",
    "verdict",
)


def difference_frame(rows: Sequence[Replicates], names: Sequence[str]) -> pd.DataFrame:
    """Accuracy of every strategy less that of each control, and of variants less plain Dynamic Training, paired by seed."""
    records = []
    ranks = [_rank(row, position) for position, row in enumerate(rows)]
    for reference, reference_name, reference_rank in zip(rows, names, ranks, strict=True):
        for row, name, rank in zip(rows, names, ranks, strict=True):
            # Of two controls one difference says it: full less fixed is fixed less full with the other sign.
            later = reference_rank is not None and (rank is None or rank > reference_rank)
            if (later or _is_variant(row, reference)) and (difference := paired(row, reference)):
                named = {"strategy": name, "against": reference_name, "std": difference.std}
                records.append(named | difference_columns(difference))
    return pd.DataFrame(records, columns=_COLUMNS)


def _rank(row: Replicates, position: int) -> tuple[int, int] | None:
    """Where a control stands among the controls; None for what is compared with them."""
    kind = next((rank for rank, kind in enumerate(CONTROLS) if isinstance(row.run.strategy, kind)), None)
    return None if kind is None else (kind, position)


def _is_variant(row: Replicates, plain: Replicates) -> bool:
    """Whether a row is another scheme, trigger or choice of replacements than the plainest, with the same sizes and epochs."""
    ours, theirs = row.run.strategy, plain.run.strategy
    if not (isinstance(ours, Dynamic) and isinstance(theirs, Dynamic)) or row.run.epochs != plain.run.epochs:
        return False
    return ours != theirs and replace(ours, **PLAIN) == theirs


def paired(row: Replicates, reference: Replicates) -> Estimate | None:
    """Difference of accuracy in points, over the seeds that both have."""
    return paired_difference(row.by_seed(accuracy_percent), reference.by_seed(accuracy_percent))


def difference_table(frame: pd.DataFrame, protocol: str, experiment: str) -> Table:
    """The differences, with a verdict each."""
    columns = {
        "strategy": lambda row: label(row.strategy),
        "against": lambda row: label(row.against),
        "pairs": lambda row: Cell(number(row.pairs)),
        "difference, points": lambda row: Cell(number(row.difference_points, 2, sign=True)),
        "95 % interval": lambda row: interval_cell(row.interval_low, row.interval_high),
        "verdict": lambda row: label(row.verdict),
    }
    caption = (
        f"Differences of accuracy in points, {PROTOCOLS[protocol]}, paired by seed. A difference holds if its own 95 % "
        "interval leaves out zero; intervals are not adjusted for the number of comparisons, and are over the seeds only: "
        "another split or other test images may give another difference. Equal differences in all pairs show no spread, "
        "from which nothing follows."
    )
    return listing(f"dynamic-{experiment}-differences-{protocol}", caption, frame, columns)


def sentences(rows: Sequence[Replicates], names: Sequence[str]) -> Iterator[str]:
    """Every dynamic strategy against the strategies of all other kinds and the plainest of its own."""
    for row, name in zip(rows, names, strict=True):
        told = [
            (difference, reference, against)
            for reference, against in zip(rows, names, strict=True)
            if _is_told(row, reference) and (difference := paired(row, reference))
        ]
        if told:
            differences = [difference for difference, *_ in told]
            verdicts = _by_verdict([(difference, against) for difference, _, against in told])
            cost = _cost(row, *min(((reference, against) for _, reference, against in told), key=_rank_of_control))
            yield f"{capitalised(name)}. {' '.join(verdicts)} ({_basis(differences)}.) {cost}{_unmoved(row)}"


VERDICTS = (
    MORE := "More accurate than",
    LESS := "Less accurate than",
    UNRESOLVED := "Not shown to differ from",
    WITHOUT_SPREAD := "The same difference in all pairs (no spread, no claim) from",
    ALONE := "Against",
)


def _by_verdict(told: Sequence[tuple[Estimate, str]]) -> Iterator[str]:
    """A sentence for each verdict, with all that it is said of."""
    said = [_verdict(difference, against) for difference, against in told]
    for verdict in VERDICTS:
        if names := [text for its_verdict, text in said if its_verdict == verdict]:
            yield f"{verdict} {'; '.join(names)}."


def _verdict(difference: Estimate, against: str) -> tuple[str, str]:
    points = number(difference.mean, 2, sign=True)
    if difference.n == 1:
        return ALONE, f"{against} ({points} points, n = 1)"
    if difference.interval is None:
        return WITHOUT_SPREAD, f"{against} ({points} points)"
    low, high = difference.interval
    if difference.verdict == "holds":
        interval = f"{number(low, 2, sign=True)} to {number(high, 2, sign=True)}"
        return MORE if difference.mean > 0 else LESS, f"{against} ({points} points, {interval})"
    return UNRESOLVED, f"{against} ({points} ± {number((high - low) / 2, 2)} points)"


def _basis(differences: Sequence[Estimate]) -> str:
    """What there is to judge differences by."""
    fewest, most = (extreme(difference.n for difference in differences) for extreme in (min, max))
    if most == 1:
        return NO_CLAIM
    intervals = "95 % intervals, " if any(difference.interval for difference in differences) else ""
    return f"{intervals}n = {fewest if fewest == most else f'{fewest} to {most}'} pairs"


def _rank_of_control(control: tuple[Replicates, str]) -> int:
    kind = type(control[0].run.strategy)
    return CONTROLS.index(kind) if kind in CONTROLS else len(CONTROLS)


def chance(rows: Sequence[Replicates]) -> str | None:
    """What the number of the differences in the sentences makes of those that hold; None if there are not two."""
    told = [paired(row, reference) for row in rows for reference in rows if _is_told(row, reference)]
    verdicts = [difference.verdict for difference in told if difference and difference.interval]
    if len(verdicts) < 2:
        return None
    by_chance, holding = len(verdicts) * (1 - LEVEL), verdicts.count("holds")
    return (
        f"Of these differences {len(verdicts)} have an interval, and {holding} {'holds' if holding == 1 else 'hold'} by it: of "
        f"as many between strategies that do not differ, {number(by_chance, 1)} would on average."
    )


def _is_told(row: Replicates, reference: Replicates) -> bool:
    """Whether the sentences set a row against another."""
    dynamic = isinstance(row.run.strategy, Dynamic)
    return dynamic and (isinstance(reference.run.strategy, CONTROLS) or _is_variant(row, reference))


def _unmoved(row: Replicates) -> str:
    # A resampling after the last epoch counts, but nothing is trained on its subset: so ask for the images seen.
    unmoved = all(result.summary.unique_images == result.history[0].subset_size for result in row.results)
    return " Its subset never changed while it trained." if unmoved else ""


def _cost(row: Replicates, reference: Replicates, name: str) -> str:
    images, seconds = (
        row.estimate(value).mean / reference.estimate(value).mean for value in (images_trained, total_seconds)
    )
    return f"It trained on {share(images)} of the images of {name}, in {time_share(seconds)} of the time."
