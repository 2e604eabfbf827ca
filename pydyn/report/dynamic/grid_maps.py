"""Heat maps of the grid, measured above published."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pydyn.report import published
from pydyn.report.dynamic.names import mean_seconds
from pydyn.report.dynamic.planes import Plane
from pydyn.report.figures import Drawing, Panel, finish, heat_maps, style
from pydyn.report.published import Figure, Paper
from pydyn.report.results import DataFacts, Replicates, accuracy_percent, total_seconds
from pydyn.report.tables import NONE, NOT_RUN, number, seconds, share

one_decimal = partial(number, decimals=1)


def accuracy_map(planes: Sequence[Plane], data: DataFacts) -> Drawing:
    """One colour scale where the data sets are the same, else one for measured and one for published panels."""
    papers = _papers(planes)
    same = published.is_dataset(data.class_names)
    panels = [
        _measured(plane, lambda cell: cell.estimate(accuracy_percent).mean, not same, one_decimal) for plane in planes
    ]
    for paper in papers:
        title = f"Published, paper {paper}: {published.DATASET}"
        panels.append(_published(title, paper, planes, lambda figure: figure.accuracy_percent, one_decimal))
    scales = (
        "All panels share one colour scale."
        if same or not papers
        else f"Measured and published panels have colour scales of their own: {data.name} is not {published.DATASET}."
    )
    return _drawing("dynamic-grid-accuracy", f"Accuracy in percent. {scales}", panels, planes)


def time_map(planes: Sequence[Plane]) -> Drawing:
    """Shares of the time of Runs on the full pool where there are any, else seconds."""
    wholes = [mean_seconds(plane.whole) for plane in planes]
    relative = all(wholes)
    text = one_decimal if relative else seconds
    panels = []
    for plane, whole in zip(planes, wholes, strict=True):
        unit = whole / 100 if relative and whole else 1.0
        panels.append(_measured(plane, partial(_time, unit), not relative, text))
    for paper in _papers(planes):
        title = f"Published, paper {paper}: {published.DATASET}, {published.DEVICE}"
        value = partial(_published_time, paper, relative)
        panels.append(_published(title, paper, planes, value, text))
    caption = (
        "Time of a Run in percent of the full pool's. All panels share one colour scale."
        if relative
        else "Seconds of a Run. Measured and published panels have colour scales of their own: the machines differ."
    )
    return _drawing("dynamic-grid-time", caption, panels, planes)


def _papers(planes: Sequence[Plane]) -> list[Paper]:
    return list(dict.fromkeys(paper for plane in planes for paper in plane.papers))


def _time(unit: float, cell: Replicates) -> float:
    return cell.estimate(total_seconds).mean / unit


def _published_time(paper: Paper, relative: bool, figure: Figure) -> float:
    value = published.time_share(figure, paper) if relative else figure.seconds
    return np.nan if value is None else 100 * value if relative else value


def _measured(
    plane: Plane, value: Callable[[Replicates], float], own_scale: bool, text: Callable[[float], str]
) -> Panel:
    cells = [[plane.cells.get((row.alpha, beta)) for beta in plane.betas] for row in plane.rows]
    array = np.array([[np.nan if cell is None else value(cell) for cell in row] for row in cells])
    scale = "measured" if own_scale else "published"
    return _panel(f"Measured, {plane.title}", [row.short for row in plane.rows], array, scale, NOT_RUN, text)


def _published(
    title: str, paper: Paper, planes: Sequence[Plane], value: Callable[[Figure], float], text: Callable[[float], str]
) -> Panel:
    grid = published.grid(paper)
    array = np.array(
        [
            [value(grid[alpha, beta]) if (alpha, beta) in grid else np.nan for beta in planes[0].betas]
            for alpha in published.ALPHAS
        ]
    )
    rows = [f"{alpha:,} images\n{share(alpha / published.POOL)}" for alpha in published.ALPHAS]
    return _panel(title, rows, array, "published", NONE, text)


def _panel(
    title: str,
    rows: Sequence[str],
    array: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    scale: str,
    absent: str,
    text: Callable[[float], str],
) -> Panel:
    texts = [[absent if np.isnan(value) else text(value) for value in row] for row in array]
    return Panel(title, rows, array, texts, scale)


def _drawing(name: str, caption: str, panels: Sequence[Panel], planes: Sequence[Plane]) -> Drawing:
    with style():
        columns = [f"{beta:g}" for beta in planes[0].betas]
        return finish(name, f"{caption} Rows: α, and its share of the pool.", heat_maps(panels, columns, ("α", "β")))
