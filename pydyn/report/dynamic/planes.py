"""The alpha x beta grid: what was measured, what was published, by the same places."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydyn.report import published
from pydyn.report.dynamic.names import PROTOCOLS, full_seconds, pool_share
from pydyn.report.published import PAPERS, Paper
from pydyn.report.results import Replicates, StudyResults
from pydyn.selection.dynamic import Dynamic

Place = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """All shares and betas that were measured or published."""

    shares: Sequence[float]
    """Largest first, as published."""
    betas: Sequence[float]


@dataclass(frozen=True)
class Plane:
    """The measured cells of one protocol and gamma, by (share of the pool, beta)."""

    protocol: str
    gamma: float
    cells: dict[Place, Replicates]
    full_seconds: float | None
    """Mean time of typical training on the full pool, if that was run."""

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.protocol}-gamma{self.gamma:g}"

    @property
    def title(self) -> str:
        """For captions."""
        return f"{PROTOCOLS[self.protocol]}, γ = {self.gamma:g}"

    def images(self, part: float) -> str:
        """How many images a share of the pool is here, if a cell with it was measured."""
        sizes = {
            f"{cell.results[0].history[0].subset_size:,} images"
            for place, cell in self.cells.items()
            if place[0] == part
        }
        return next(iter(sizes), "")


def find_planes(results: StudyResults) -> list[Plane]:
    """The measured grid, in the order of the configuration."""
    planes = []
    for protocol in dict.fromkeys(result.run.protocol for result in results.experiments["grid"]):
        by_gamma: dict[float, dict[Place, Replicates]] = {}
        for cell in results.replicates("grid", protocol):
            strategy = cell.run.strategy
            assert isinstance(strategy, Dynamic)
            place = (pool_share(strategy.alpha, results.data), strategy.beta)
            by_gamma.setdefault(strategy.gamma, {})[place] = cell
        planes += [Plane(protocol, gamma, cells, full_seconds(results, protocol)) for gamma, cells in by_gamma.items()]
    return planes


def find_axes(planes: Sequence[Plane]) -> Axes:
    """The rows and columns that tables and maps share."""
    measured = {place for plane in planes for place in plane.cells}
    places = measured.union(*(published.grid(paper) for paper in PAPERS))
    return Axes(sorted({part for part, _ in places}, reverse=True), sorted({beta for _, beta in places}))


def published_share(paper: Paper, place: Place) -> float | None:
    """A published cell's time as a share of the same paper's full-pool training."""
    figure, whole = published.grid(paper).get(place), published.full(paper).seconds
    return figure.seconds / whole if figure and figure.seconds and whole else None
