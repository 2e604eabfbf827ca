"""Generated figures: ellipse, rectangle and triangle, white on black, anti-aliased."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pydyn.config.datasets import ShapesDataset
from pydyn.seeding import numpy_generator

KINDS = ("ellipse", "rectangle", "triangle")
# Figures are drawn this many times larger and reduced by a box filter, whose integer arithmetic is the same everywhere.
OVERSAMPLING = 8
# The polygon that stands for an ellipse leaves it by less than a hundredth of a pixel at 512 pixels.
ELLIPSE_VERTICES = 360


@dataclass(frozen=True)
class Figure:
    """One figure. Lengths are in units of half the image, x to the right and y downwards from the image's centre."""

    kind: str
    """`ellipse`, `rectangle` or `triangle` (equilateral, apex up, before it is deformed)."""
    size: float
    """Radius of the ellipse, half side of the rectangle, circumradius of the triangle."""
    aspect: float = 1.0
    """Height over width: the figure is squeezed vertically. 1 gives circles and squares."""
    shear: float = 0.0
    """x grows by this times y."""
    angle: float = 0.0
    """Degrees, anticlockwise as seen, about the centroid, after squeezing and shearing."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Where the centroid is."""

    def vertices(self) -> NDArray[np.float64]:
        """Corners (n, 2) of the figure, or of the polygon that stands for the ellipse."""
        turn = math.radians(self.angle)
        stretched = _unit_vertices(self.kind) * (self.size, self.size * self.aspect)
        sheared = stretched + np.outer(stretched[:, 1], (self.shear, 0.0))
        rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        rotated: NDArray[np.float64] = sheared @ rotation.T
        return rotated + self.shift

    def draw(self, image_size: int) -> Image.Image:
        """A square grey image (mode L), 255 inside and 0 outside; what lies outside the image is cut off."""
        canvas_size = image_size * OVERSAMPLING
        # Whole coordinates, so that the last bit of a sine decides nothing.
        corners = np.rint((self.vertices() + 1) * (canvas_size / 2) - 0.5).astype(int)
        canvas = Image.new("L", (canvas_size, canvas_size))
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in corners.tolist()], fill=255)
        return canvas.reduce(OVERSAMPLING)


def figure(dataset: ShapesDataset, part: str, index: int) -> Figure:
    """The figure of image `index` of part `train` or `test`: kinds take turns, the rest is drawn for this image alone.

    Every quantity is drawn whether the declaration varies it or not: varying one leaves the others as they were.
    """
    draws = numpy_generator(dataset.seed, "shapes", part, index).random(6)
    size, aspect = draws[:2]
    shear, shift_x, shift_y = 2 * draws[3:] - 1
    smallest, largest = dataset.size
    return Figure(
        kind=KINDS[index % len(KINDS)],
        size=float(smallest + (largest - smallest) * size),
        aspect=float(1 - (1 - dataset.aspect) * aspect),
        shear=float(dataset.shear * shear),
        angle=float(360 * draws[2]) if dataset.rotate else 0.0,
        shift=(float(dataset.shift * shift_x), float(dataset.shift * shift_y)),
    )


def shapes_image(dataset: ShapesDataset, part: str, index: int) -> Image.Image:
    """Image `index` of part `train` or `test`: a square grey image (mode L), the same whatever else is generated."""
    image = figure(dataset, part, index).draw(dataset.image_size)
    if dataset.noise == 0:
        return image
    generator = numpy_generator(dataset.seed, "shapes noise", part, index)
    noise = generator.standard_normal((dataset.image_size, dataset.image_size)) * (255 * dataset.noise)
    return Image.fromarray(np.clip(np.asarray(image) + np.rint(noise), 0, 255).astype(np.uint8))


def _unit_vertices(kind: str) -> NDArray[np.float64]:
    if kind == "rectangle":
        return np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    n_vertices = {"ellipse": ELLIPSE_VERTICES, "triangle": 3}[kind]
    angles = np.arange(n_vertices) * (2 * math.pi / n_vertices)
    return np.stack((np.sin(angles), -np.cos(angles)), axis=1)
