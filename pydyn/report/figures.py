"""Drawings for the page: readable in print, in grey and by the colour-blind; same values, same bytes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

# Inches of the text's width on an A4 page.
PAGE_WIDTH = 7.0
PRINT_DPI = 300

# Okabe and Ito's colours without the yellow, which is too pale for a line; a dash pattern each, for grey print.
COLOURS = ("#222222", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (8, 2)))
# Light to dark in one hue, so that grey print keeps the order; the darkest and palest ends would swallow the figures.
COLOUR_MAP = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.04, 0.75, 256)))
NOT_RUN = "#f3f3f3"

STYLE = {
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": "#222222",
    "axes.labelsize": 8.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    # Letters as outlines: the drawing looks the same where the font is missing.
    "svg.fonttype": "path",
    "xtick.color": "#444444",
    "xtick.labelsize": 8,
    "ytick.color": "#444444",
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    kind: ClassVar[str] = "drawing"

    name: str
    caption: str
    svg: str
    """An `svg` element to stand inside a page."""
    png: bytes
    """At print resolution."""

    @property
    def svg_file(self) -> str:
        """A file of its own."""
        return f'<?xml version="1.0" encoding="utf-8"?>\n{self.svg}\n'


@dataclass(frozen=True)
class Panel:
    """One heat map: rows downwards, columns to the right, NaN where there is no value (its text says why)."""

    title: str
    rows: Sequence[str]
    values: NDArray[np.float64]
    texts: Sequence[Sequence[str]]
    scale: str
    """Panels with one scale share their colours' range."""
    limits: tuple[float, float] | None = None
    """That range, where it is known beforehand; else what the values span."""


@contextmanager
def style() -> Iterator[None]:
    """Draw in the page's style, whatever the user's settings."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def finish(name: str, caption: str, figure: Figure) -> Drawing:
    """Bring a figure into its final forms. To be called inside `style()`."""
    picture, text = io.BytesIO(), io.StringIO()
    figure.savefig(picture, format="png", dpi=PRINT_DPI, metadata={"Software": None})
    matplotlib.rcParams["svg.hashsalt"] = name
    figure.savefig(text, format="svg", metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    return Drawing(name, caption, _embeddable(text.getvalue(), name), picture.getvalue())


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], most_columns: int) -> None:
    """A legend below all panels, in as many columns as there is room for; the figure grows by its height."""
    for columns in range(most_columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def verbatim(text: str) -> str:
    """A class's name, which is a user's folder's, for matplotlib: it would typeset what stands between dollars as a formula."""
    return text.replace("$", r"\$")


def _embeddable(svg: str, name: str) -> str:
    """Only the element, with identifiers that no other drawing on the page has."""
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)
    return element.replace("<svg ", '<svg role="img" ', 1)


def heat_maps(panels: Sequence[Panel], columns: Sequence[str], labels: tuple[str, str]) -> Figure:
    """Panels one below the other, so that a column is the same value in each. `labels`: of the rows, of the columns."""
    heights = [len(panel.rows) for panel in panels]
    height = 0.36 * sum(heights) + 0.36 * len(panels) + 0.35
    figure = Figure(figsize=(PAGE_WIDTH, height))
    axes = np.atleast_1d(figure.subplots(len(panels), sharex=True, height_ratios=heights))
    for axis, panel in zip(axes, panels, strict=True):
        norm = (
            Normalize(*panel.limits)
            if panel.limits
            else _range_of([p.values for p in panels if p.scale == panel.scale])
        )
        _heat_map(axis, panel, norm)
        axis.set_yticks(np.arange(len(panel.rows)) + 0.5, panel.rows)
        axis.set_ylabel(labels[0], rotation=0, ha="right", va="center")
    axes[-1].set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes[-1].set_xlabel(labels[1])
    return figure


def _heat_map(axis: Axes, panel: Panel, norm: Normalize) -> None:
    axis.set_facecolor(NOT_RUN)
    # A mesh, not an image: cells stay shapes in the SVG file.
    axis.pcolormesh(panel.values, cmap=COLOUR_MAP, norm=norm, edgecolors="white", linewidth=1.5)
    axis.invert_yaxis()
    axis.set_title(panel.title)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.grid(False)
    for (row, column), value in np.ndenumerate(panel.values):
        unknown = np.isnan(value)
        ink = "#666666" if unknown else "#ffffff" if norm(value) > 0.85 else "#111111"
        text, size = panel.texts[row][column], 6.5 if unknown else 8.5
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=size)


def _range_of(values: Sequence[NDArray[np.float64]]) -> Normalize:
    known = np.concatenate([array[~np.isnan(array)] for array in values])
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    # One value alone, or equal ones, take the middle of the colours.
    return Normalize(low - 0.5, high + 0.5) if low == high else Normalize(low, high)


def line_style(position: int) -> dict[str, Any]:
    """Colour and dashes of the line at a position among others."""
    # Colours that come again do so with other dashes.
    dashes = DASHES[(position + position // len(COLOURS)) % len(DASHES)]
    return {"color": COLOURS[position % len(COLOURS)], "linestyle": dashes}


def mean_and_band(
    axis: Axes,
    x: NDArray[np.float64],
    curves: NDArray[np.float64],
    band: Literal["range", "std"],
    **line: Any,
) -> None:
    """The mean over the rows of `curves` as a line, and a band: minimum to maximum, or one standard deviation."""
    mean = curves.mean(axis=0)
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(x) < 3 else {}
    axis.plot(x, mean, **line, **marker)
    if len(curves) < 2:
        return
    deviation = curves.std(axis=0, ddof=1)
    low, high = (curves.min(axis=0), curves.max(axis=0)) if band == "range" else (mean - deviation, mean + deviation)
    axis.fill_between(x, low, high, color=line["color"], alpha=0.18, linewidth=0)


def frame_epochs(axis: Axes, epochs: int) -> None:
    """An axis of whole epochs from the first to the last."""
    axis.set_xlim(1, max(epochs, 2))
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
