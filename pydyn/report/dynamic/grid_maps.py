"""Heat maps of the grid, measured above published."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from pydyn.report import published
from pydyn.report.dynamic.planes import Axes, Place, Plane, published_share
from pydyn.report.figures import Drawing, Panel, finish, heat_maps, style
from pydyn.report.published import PAPERS
from pydyn.report.results import DataFacts, accuracy_percent, total_seconds
from pydyn.report.tables import NONE, NOT_RUN, number, seconds, share

one_decimal = partial(number, decimals=1)


def accuracy_map(planes: Sequence[Plane], axes: Axes, data: DataFacts) -> Drawing:
    """One colour scale where the data sets are the same, else one for measured and one for published panels."""
    same = published.is_dataset(data.class_names)
    panels = [
        _measured(
            plane,
            {place: cell.estimate(accuracy_percent).mean for place, cell in plane.cells.items()},
            axes,
            own_scale=not same,
            text=one_decimal,
        )
        for plane in planes
    ]
    for paper in PAPERS:
        values = {place: figure.accuracy_percent for place, figure in published.grid(paper).items()}
        panels.append(
            _panel(f"Published, paper {paper}: {published.DATASET}", values, axes, "published", NONE, one_decimal)
        )
    scales = (
        "All panels share one colour scale."
        if same
        else f"Measured and published panels have colour scales of their own: {data.name} is not {published.DATASET}."
    )
    return _drawing("dynamic-grid-accuracy", f"Accuracy in percent. {scales}", panels, axes)


def time_map(planes: Sequence[Plane], axes: Axes) -> Drawing:
    """Shares of the time of full-pool training where that was run, else seconds."""
    relative = all(plane.full_seconds for plane in planes)
    panels = []
    text = one_decimal if relative else seconds
    for plane in planes:
        unit = plane.full_seconds / 100 if relative and plane.full_seconds else 1
        values = {place: cell.estimate(total_seconds).mean / unit for place, cell in plane.cells.items()}
        panels.append(_measured(plane, values, axes, not relative, text))
    for paper in PAPERS:
        shares = {place: 100 * (published_share(paper, place) or np.nan) for place in published.grid(paper)}
        times = {place: figure.seconds or np.nan for place, figure in published.grid(paper).items()}
        title = f"Published, paper {paper}: {published.DATASET}, {published.DEVICE}"
        panels.append(_panel(title, shares if relative else times, axes, "published", NONE, text))
    caption = (
        "Time of a training in percent of full-pool training on the same machine. All panels share one colour scale."
        if relative
        else "Seconds a training. Measured and published panels have colour scales of their own: the machines differ."
    )
    return _drawing("dynamic-grid-time", caption, panels, axes)


def _measured(
    plane: Plane, values: Mapping[Place, float], axes: Axes, own_scale: bool, text: Callable[[float], str]
) -> Panel:
    return _panel(f"Measured, {plane.title}", values, axes, "measured" if own_scale else "published", NOT_RUN, text)


def _panel(
    title: str, values: Mapping[Place, float], axes: Axes, scale: str, absent: str, text: Callable[[float], str]
) -> Panel:
    array = np.array([[values.get((part, beta), np.nan) for beta in axes.betas] for part in axes.shares])
    texts = [[absent if np.isnan(value) else text(value) for value in row] for row in array]
    return Panel(title, array, texts, scale)


def _drawing(name: str, caption: str, panels: Sequence[Panel], axes: Axes) -> Drawing:
    with style():
        rows, columns = [share(part) for part in axes.shares], [f"{beta:g}" for beta in axes.betas]
        return finish(name, caption, heat_maps(panels, rows, columns, ("α", "β")))
