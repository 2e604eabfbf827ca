"""Pictures of one network: activation maps in the thesis's form, pruning, similarity, failures."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pydyn.report.figures import (
    COLOUR_MAP,
    COLOURS,
    PAGE_WIDTH,
    Drawing,
    finish,
    legend_below,
    line_style,
    style,
    verbatim,
)
from pydyn.report.shapes.read import Analysed

# Of an A4 page, in inches, with room for a caption.
PAGE_HEIGHT = 9.2
GAP = 2  # pixels between maps
SEPARATOR = 0.55  # grey of the gaps


def maps_drawing(one: Analysed, layer: int, class_names: tuple[str, ...]) -> Drawing:
    """A layer's activation maps: images in rows, filters in columns, the image itself first. `layer` counts from 0."""
    maps = one.maps[layer]
    n_images, n_filters, height, width = maps.shape
    mosaic = np.full(
        (n_images * (height + GAP) - GAP, (n_filters + 1) * (width + GAP) - GAP), SEPARATOR, dtype=np.float32
    )
    highest = maps.max(axis=(0, 2, 3))
    for row in range(n_images):
        top = row * (height + GAP)
        mosaic[top : top + height, :width] = _fitted(one.shown[row], height, width)
        for column in range(n_filters):
            left = (column + 1) * (width + GAP)
            scaled = maps[row, column] / highest[column] if highest[column] > 0 else maps[row, column]
            mosaic[top : top + height, left : left + width] = scaled
    with style():
        labels = 1.15
        scale = min((PAGE_WIDTH - labels) / mosaic.shape[1], (PAGE_HEIGHT - 0.4) / mosaic.shape[0])
        figure = Figure(figsize=(PAGE_WIDTH, mosaic.shape[0] * scale + 0.4))
        axis = figure.add_subplot()
        axis.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0, labeltop=True, labelbottom=False)
        axis.set_xticks(
            [column * (width + GAP) + width / 2 for column in range(n_filters + 1)],
            ["", *(f"F{number}" for number in range(1, n_filters + 1))],
            fontsize=6.5,
        )
        names = [_shown_name(one, row, class_names) for row in range(n_images)]
        axis.set_yticks([row * (height + GAP) + height / 2 for row in range(n_images)], names, fontsize=6)
        caption = (
            f"{one.name}: activation maps of layer {layer + 1} after its ReLU, a row for each image (the image itself "
            "first), a column for each filter, brightest at the filter's highest activation on these images. Black "
            "columns are filters that never answer."
        )
        return finish(f"shapes-maps-{one.file}-layer{layer + 1}", caption, figure)


def _fitted(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """An image at the size of a layer's maps, in 0..1."""
    block = image.shape[0] // height, image.shape[1] // width
    cut = image[: height * block[0], : width * block[1]].astype(np.float32) / 255
    mean: NDArray[np.float32] = cut.reshape(height, block[0], width, block[1]).mean(axis=(1, 3))
    return mean


def _shown_name(one: Analysed, row: int, class_names: tuple[str, ...]) -> str:
    shown = one.summary.shown[row]
    name = verbatim(class_names[shown.label])
    turned = {image.angle for image in one.summary.shown} not in ({None}, {0.0})
    if turned and shown.angle is not None:
        return f"{name} {round(shown.angle) % 360}°"
    return name if shown.size is None else f"{name} {shown.size:.2f}"


def pruning_drawing(one: Analysed) -> Drawing:
    """The pruning table as a picture: how accuracy falls, and what each filter was worth at each step."""
    steps, filters = one.summary.steps, one.summary.filters
    grid = np.array([[step.without.get(filter, np.nan) for step in steps] for filter in filters])
    with style():
        height = min(PAGE_HEIGHT, 1.9 + 0.17 * len(filters))
        figure = Figure(figsize=(PAGE_WIDTH, height))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, max(1.0, 0.15 * len(filters))])
        accuracies = 100 * np.array([one.summary.accuracy, *one.after])
        top.step(np.arange(len(accuracies)), accuracies, where="post", color=COLOURS[0])
        top.set_ylim(0, 103)
        top.set_ylabel("accuracy, %")
        mesh = bottom.pcolormesh(100 * grid, cmap=COLOUR_MAP, vmin=0, vmax=100, edgecolors="white", linewidth=0.4)
        bottom.set_facecolor("#f3f3f3")
        bottom.invert_yaxis()
        bottom.grid(False)
        bottom.tick_params(length=0)
        bottom.set_yticks(np.arange(len(filters)) + 0.5, filters, fontsize=5.5 if len(filters) > 20 else 7)
        every = 1 if len(steps) <= 20 else 2
        bottom.set_xticks(np.arange(0, len(steps), every) + 0.5, np.arange(1, len(steps) + 1, every), fontsize=7)
        bottom.set_xlabel("step")
        for column, step in enumerate(steps):
            for filter in step.removed:
                row = filters.index(filter)
                bottom.text(column + 0.5, row + 0.5, "×", ha="center", va="center", fontsize=8, weight="bold")
        figure.colorbar(mesh, ax=bottom, label="accuracy without it, %", fraction=0.03, pad=0.01)
        caption = (
            f"{one.name}: greedy pruning. Above, accuracy of the network before each step and at the end; below, accuracy "
            "without each filter that remains, × where it goes, grey where it is gone."
        )
        return finish(f"shapes-pruning-{one.file}", caption, figure)


def courses_drawing(every: Sequence[Analysed]) -> Drawing:
    """Accuracy against filters that are gone, a panel for each network, with the thesis's."""
    columns = min(3, len(every))
    rows = -(-len(every) // columns)
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 0.3 + 1.8 * rows))
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
        for axis, one in zip(axes, every, strict=False):
            courses: list[tuple[str, list[Sequence[str]], list[float]]] = [
                ("measured", [step.removed for step in one.summary.steps], [one.summary.accuracy, *one.after]),
                ("the thesis's", [step.removed for step in one.told], [1.0, *(step.accuracy for step in one.told)]),
            ]
            for position, (name, removed, accuracies) in enumerate(courses):
                if removed:
                    gone = np.cumsum([0, *map(len, removed)])
                    axis.plot(gone, 100 * np.array(accuracies), marker=".", label=name, **line_style(position))
            axis.set_title(one.name.partition(",")[0])
            axis.set_xlabel("filters gone")
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axis.set_xlim(0, len(one.summary.filters) - len(one.summary.left) + 0.5)
        for axis in axes[len(every) :]:
            axis.axis("off")
        axes[0].set_ylim(0, 103)
        for axis in axes[::columns]:
            axis.set_ylabel("accuracy, %")
        handles = {
            name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        legend_below(figure, list(handles.values()), list(handles), 2)
        caption = (
            "Greedy pruning, a point for each step: accuracy on the training images against how many filters are gone. Of the "
            "thesis's networks, taken to begin at 100 %, the accuracy without the filter that goes; where several go together, "
            "without one of them."
        )
        return finish("shapes-pruning-courses", caption, figure)


def similarity_drawing(one: Analysed) -> Drawing:
    """Similarity of kernels and of activation maps, layer by layer."""
    kinds = (("kernels", one.summary.kernel_similarity), ("activation maps", one.summary.activation_similarity))
    n_layers = len(kinds[0][1])
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.9 * n_layers))
        axes = figure.subplots(n_layers, 2, squeeze=False)
        mesh = None
        for layer in range(n_layers):
            for axis, (kind, matrices) in zip(axes[layer], kinds, strict=True):
                values = np.array([[np.nan if v is None else v for v in row] for row in matrices[layer]], dtype=float)
                mesh = axis.pcolormesh(
                    values, cmap=matplotlib.colormaps["RdBu_r"], vmin=-100, vmax=100, edgecolors="white", linewidth=0.4
                )
                axis.set_facecolor("#f3f3f3")
                axis.invert_yaxis()
                axis.set_aspect("equal")
                axis.grid(False)
                axis.tick_params(length=0)
                axis.spines[:].set_visible(False)
                names = [f"F{number}" for number in range(1, len(values) + 1)]
                axis.set_xticks(np.arange(len(values)) + 0.5, names, fontsize=5.5)
                axis.set_yticks(np.arange(len(values)) + 0.5, names, fontsize=5.5)
                axis.set_title(f"layer {layer + 1}, {kind}")
                if len(values) <= 16:
                    for (row, column), value in np.ndenumerate(values):
                        ink = "#ffffff" if abs(value) > 70 else "#111111"
                        text = "" if np.isnan(value) else f"{value:.0f}".replace("-", "−")
                        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=4.6, color=ink)
        assert mesh is not None
        figure.colorbar(mesh, ax=axes, label="%", fraction=0.02, pad=0.01)
        caption = (
            f"{one.name}: similarity of each layer's filters in percent, cosine of the kernels and correlation of the "
            "activation maps over all pixels of all training images. Grey: a filter that never answers."
        )
        return finish(f"shapes-similarity-{one.file}", caption, figure)


def failures_drawing(one: Analysed, class_names: tuple[str, ...]) -> Drawing | None:
    """The first misclassified images, and accuracy by size."""
    if not len(one.failed) and not one.summary.sizes:
        return None
    columns = 8
    rows = -(-len(one.failed) // columns)
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 0.95 * rows + (2.1 if one.summary.sizes else 0.2)))
        upper, lower = _in_two(figure, max(0.95 * rows, 0.01), 2.1) if one.summary.sizes else (figure, None)
        if rows:
            axes = upper.subplots(rows, columns, squeeze=False).flatten()
            for axis in axes:
                axis.axis("off")
            for axis, image, failure in zip(axes, one.failed, one.summary.failures, strict=False):
                axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                size = "" if failure.size is None else f"\n{failure.size:.2f}"
                title = verbatim(f"{class_names[failure.true]}, as {class_names[failure.predicted]}{size}")
                axis.set_title(title, fontsize=4.6, loc="center")
        if lower is not None:
            axis = lower.subplots()
            sizes = one.summary.sizes
            accuracy = [100 * part.n_correct / part.n_images if part.n_images else np.nan for part in sizes]
            edges = [sizes[0].low, *(part.high for part in sizes)]
            axis.stairs(accuracy, edges, color=COLOURS[0], linewidth=1.6)
            axis.set_xlabel("size, in halves of the image")
            axis.set_ylabel("accuracy, %")
            axis.set_ylim(min(95.0, np.nanmin(accuracy) - 2), 100.5)
        caption = (
            f"{one.name}: the first misclassified images with class, prediction and size"
            + ("; below, accuracy by size." if one.summary.sizes else ".")
            if rows
            else f"{one.name}: no image is misclassified; accuracy by size."
        )
        return finish(f"shapes-failures-{one.file}", caption, figure)


def _in_two(figure: Figure, upper: float, lower: float) -> tuple[FigureBase, FigureBase]:
    """Two parts of these heights, one above the other."""
    parts = np.asarray(figure.subfigures(2, 1, height_ratios=[upper, lower]), dtype=object)
    return parts[0], parts[1]
