"""The alpha x beta grid: what was measured, what was published, by the same places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydyn.report import published
from pydyn.report.dynamic.matching import Basis, grid_papers, published_alpha
from pydyn.report.dynamic.names import PROTOCOLS, full_pool
from pydyn.report.published import Figure, Paper
from pydyn.report.results import DataFacts, Replicates, StudyResults
from pydyn.report.tables import share
from pydyn.selection.dynamic import Dynamic


@dataclass(frozen=True)
class GridRow:
    """All cells of one alpha."""

    alpha: str | None
    """As the configuration writes it: 25000 and 0.5 are rows of their own. None: published, not measured."""
    size: str
    """In images."""
    part: str
    """Of the pool."""
    published: int | None
    """The published alpha that stands beside it."""
    basis: Basis | None
    order: float
    """The share of the pool: rows are sorted by it."""

    @property
    def of_what(self) -> str:
        """Below the size."""
        return f"{self.part} of the {'pool' if self.alpha else 'published pool'}"

    @property
    def short(self) -> str:
        """For heat maps, in two lines."""
        # A published size says nothing of another pool: its share does.
        return f"{self.size if self.alpha else 'as published'}\n{self.part}"


@dataclass(frozen=True)
class Plane:
    """The measured cells of one protocol and gamma."""

    protocol: str
    gamma: float
    rows: Sequence[GridRow]
    """Largest first, as published."""
    betas: Sequence[float]
    """All that were measured or published."""
    cells: Mapping[tuple[str | None, float], Replicates]
    """By alpha, as in the rows, and beta."""
    papers: Sequence[Paper]
    """Those whose grids stand beside this plane."""
    without: str
    """Why none does, if so."""
    whole: Replicates | None
    """Runs on the full pool, if there are any."""

    @property
    def n_pool(self) -> int:
        """Images that its Runs could train on."""
        return next(iter(self.cells.values())).n_pool

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.protocol}-gamma{self.gamma:g}"

    @property
    def title(self) -> str:
        """For captions."""
        return f"{PROTOCOLS[self.protocol]}, γ = {self.gamma:g}"


def find_planes(results: StudyResults) -> list[Plane]:
    """The measured grid, in the order of the configuration."""
    study = results.config.dynamic
    assert study is not None and study.grid is not None
    # The published grids are of one gamma; where that was measured, they stand beside no other.
    papers = grid_papers(study)
    betas = {*study.grid.beta, *(beta for paper in papers for _, beta in published.grid(paper))}
    planes = []
    for protocol in study.protocols:
        by_gamma: dict[float, dict[tuple[str | None, float], Replicates]] = {}
        for cell in results.replicates("grid", protocol):
            strategy = cell.run.strategy
            assert isinstance(strategy, Dynamic)
            cells, place = by_gamma.setdefault(strategy.gamma, {}), (repr(strategy.alpha), strategy.beta)
            assert place not in cells, f"two settings in one cell of the grid: {cell.run.setting}"
            cells[place] = cell
        for gamma, cells in by_gamma.items():
            beside = papers if gamma == published.GAMMA or published.GAMMA not in by_gamma else ()
            without = (
                f"Published figures stand beside γ = {published.GAMMA}." if papers else "No published counterpart."
            )
            rows = _rows(cells, results.data, with_published=bool(beside))
            planes.append(
                Plane(protocol, gamma, rows, sorted(betas), cells, beside, without, full_pool(results, protocol))
            )
    return planes


def _rows(cells: Mapping[tuple[str | None, float], Replicates], data: DataFacts, with_published: bool) -> list[GridRow]:
    by_alpha = {alpha: cell for (alpha, _), cell in cells.items()}
    matches = {alpha: published_alpha(cell, data) if with_published else None for alpha, cell in by_alpha.items()}
    # A published size belongs to the subsets of that count, if there are any, and else to those of that share.
    counted = {match[0]: by_alpha[alpha].n_subset for alpha, match in matches.items() if match and match[1] == "count"}
    sizes = [cell.n_subset for cell in by_alpha.values()]
    rows = []
    for alpha, cell in by_alpha.items():
        match = matches[alpha]
        if match and counted.get(match[0], cell.n_subset) != cell.n_subset:
            match = None
        twin = f" (α = {alpha})" if sizes.count(cell.n_subset) > 1 else ""
        known, basis = match or (None, None)
        rows.append(GridRow(alpha, f"{cell.n_subset:,} images{twin}", share(cell.share), known, basis, cell.share))
    beside = {row.published for row in rows}
    for known in published.ALPHAS if with_published else ():
        if known not in beside:
            part = known / published.POOL
            rows.append(GridRow(None, f"{known:,} images", share(part), known, None, part))
    return sorted(rows, key=lambda row: -row.order)


def published_figure(plane: Plane, row: GridRow, beta: float, paper: Paper) -> Figure | None:
    """The published cell beside a place of a plane."""
    if row.published is None or paper not in plane.papers:
        return None
    return published.grid(paper).get((row.published, beta))
