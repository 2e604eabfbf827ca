"""Which published figure belongs to which measured row of the study `dynamic`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydyn.config.studies import DynamicStudy
from pydyn.report import published
from pydyn.report.dynamic.names import is_share
from pydyn.report.published import PAPERS, Figure, Paper
from pydyn.report.results import DataFacts, Replicates, StudyResults
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic

Basis = Literal["count", "share"]
Place = Literal["table 4", "figure 12", "table 5"]
"""What published figures may be of: single Runs, replicates, replicates with augmented images."""


@dataclass(frozen=True)
class Counterpart:
    """A published figure beside a measured row."""

    figure: Figure
    basis: Basis | None
    """What the subsets' sizes have in common; None for the full pool."""
    there: tuple[str, ...]
    """Parameters that the paper set otherwise, with its values."""


def compared_papers(study: DynamicStudy) -> tuple[Paper, ...]:
    """The papers whose figures stand beside the measured ones: none used batch normalisation, cnn_b is paper b's alone."""
    if study.batch_norm:
        return ()
    return ("b",) if study.model == "cnn_b" else PAPERS


def grid_papers(study: DynamicStudy) -> tuple[Paper, ...]:
    """Of the papers compared, those whose grid is of the study's scheme."""
    assert study.grid is not None
    return tuple(paper for paper in compared_papers(study) if published.GRID_SCHEMES[paper] == study.grid.scheme)


def published_alpha(row: Replicates, data: DataFacts) -> tuple[int, Basis] | None:
    """The published subset size of a row: the same count out of as many training images, else the same share of the pool."""
    alpha = getattr(row.run.strategy, "alpha", None)
    if isinstance(alpha, int) and alpha in published.ALPHAS and data.n_train == published.POOL:
        return alpha, "count"
    for known in published.ALPHAS:
        if is_share(row.n_subset, row.n_pool, known / published.POOL):
            return known, "share"
    return None


def counterparts(
    results: StudyResults, rows: Sequence[Replicates], paper: Paper, place: Place = "table 4"
) -> list[Counterpart | None]:
    """For each row its published figure, or None. Of rows that one figure would fit, those nearest to the paper get it.

    Args:
        results: the study's.
        rows: of one experiment and protocol.
        paper: which paper.
        place: where the figures are to be from. Table 5 says neither β nor scheme: any scheme with the β of the others.
    """
    study = results.config.dynamic
    assert study is not None
    found: list[Counterpart | None] = [None] * len(rows)
    fits = [_fitting(paper, row, results.data, place) for row in rows]
    for figure in dict.fromkeys(fit[0] for fit in fits if fit):
        positions = [position for position, fit in enumerate(fits) if fit and fit[0] == figure]
        for position in _nearest(positions, rows, fits, figure, study.epochs):
            fit = fits[position]
            assert fit is not None
            found[position] = Counterpart(figure, fit[1], _there(rows[position]))
    return found


def _fitting(paper: Paper, row: Replicates, data: DataFacts, place: Place) -> tuple[Figure, Basis | None] | None:
    """The published figure of a row's strategy and subset size; the papers compare the full pool with its half only."""
    strategy, matched = row.run.strategy, published_alpha(row, data)
    augmented = place == "table 5"
    basis: Basis | None = None
    if isinstance(strategy, Full):
        figures = published.comparison(paper, 1.0, augmentation=augmented, dynamic=False)
    elif matched and matched[0] == published.POOL // 2:
        basis = matched[1]
        if isinstance(strategy, Fixed):
            figures = published.comparison(paper, 0.5, augmentation=augmented, dynamic=False)
        elif isinstance(strategy, Dynamic) and strategy.beta == published.BETA and strategy.replacements == "uniform":
            variant = None if augmented else strategy.scheme
            figures = published.comparison(paper, 0.5, variant, augmentation=augmented, dynamic=True)
        else:
            return None
    else:
        return None
    figures = [figure for figure in figures if ("figure 12" in figure.place) == (place == "figure 12")]
    return (figures[0], basis) if figures else None


def _nearest(
    positions: list[int],
    rows: Sequence[Replicates],
    fits: Sequence[tuple[Figure, Basis | None] | None],
    figure: Figure,
    default_epochs: int,
) -> list[int]:
    """Of the rows that a figure fits: the published epochs or else the study's, then the published parameters, then the count.

    A figure that names no epochs fits any, where there are none of the study's.
    """

    def strategy(position: int, name: str) -> object:
        return getattr(rows[position].run.strategy, name, None)

    as_published = [position for position in positions if rows[position].run.epochs == figure.epochs]
    kept = as_published or [position for position in positions if rows[position].run.epochs == default_epochs]
    if figure.epochs is None:
        kept = kept or positions
    wishes: Iterable[Callable[[int], bool]] = (
        lambda position: strategy(position, "gamma") == published.GAMMA,
        lambda position: strategy(position, "delta") == published.DELTA,
        lambda position: strategy(position, "trigger") == "absolute",
        lambda position: (fits[position] or (figure, None))[1] == "count",
    )
    for wish in wishes:
        kept = [position for position in kept if wish(position)] or kept
    return kept


def _there(row: Replicates) -> tuple[str, ...]:
    strategy = row.run.strategy
    if not isinstance(strategy, Dynamic):
        return ()
    unlike = {
        f"γ\u00a0{published.GAMMA:g}": strategy.gamma != published.GAMMA,
        f"δ\u00a0{published.DELTA:g}": strategy.delta != published.DELTA,
        "absolute trigger": strategy.trigger != "absolute",
    }
    return tuple(name for name, differs in unlike.items() if differs)
