import hashlib

import numpy as np
import pytest

from pydyn.data.shapes import KINDS, Figure, figure, shapes_image

# Published: the same declaration must give these bytes on every machine.
DIGESTS = {
    "plain": "019bd057d7df9d349858d7c42f4132246ced8669e6d3791912f775296d45c7ae",
    "rotated": "0e6a3a57d4d4ce3520f92c97eb03fe9defd71a83ebb1e5370d5da9f8ad63cb05",
    "everything": "150549cfd802ca8a8a41fed570d003c3c244edc6c75e354377c1730b12a28ba7",
}
DECLARATIONS = {
    "plain": {},
    "rotated": {"size": [0.7, 0.7], "rotate": True},
    "everything": {
        "size": [0.2, 0.9],
        "rotate": True,
        "aspect": 0.5,
        "shear": 0.4,
        "shift": 0.3,
        "noise": 0.1,
        "seed": 5,
    },
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_bytes_are_as_published(declare, name):
    dataset = declare(source="shapes", **DECLARATIONS[name])
    digest = hashlib.sha256()
    for part in ("train", "test"):
        for index in range(150):
            digest.update(np.asarray(shapes_image(dataset, part, index)).tobytes())
    assert digest.hexdigest() == DIGESTS[name]


def test_kinds_take_turns(declare):
    dataset = declare(source="shapes")
    assert [figure(dataset, "train", index).kind for index in range(6)] == list(KINDS) * 2


def test_parts_differ(declare):
    dataset = declare(source="shapes")
    assert figure(dataset, "train", 0) != figure(dataset, "test", 0)


@pytest.mark.parametrize(
    "variation", [{"rotate": True}, {"shift": 0.5}, {"aspect": 0.5}, {"shear": 0.5}, {"noise": 0.2}]
)
def test_varying_one_thing_leaves_the_sizes(declare, variation):
    plain, varied = declare(source="shapes"), declare(source="shapes", **variation)
    assert figure(plain, "train", 7).size == figure(varied, "train", 7).size


def test_sizes_fill_their_range(declare):
    dataset = declare(source="shapes", size=[0.3, 0.9])
    sizes = [figure(dataset, "train", index).size for index in range(300)]
    assert 0.3 <= min(sizes) < 0.32
    assert 0.88 < max(sizes) <= 0.9


@pytest.mark.parametrize(
    ("kind", "area"),
    [("ellipse", np.pi), ("rectangle", 4.0), ("triangle", 3 * np.sqrt(3) / 4)],
)
@pytest.mark.parametrize("angle", [0, 30, 200])
def test_area_is_that_of_the_figure(kind, area, angle):
    image = np.asarray(Figure(kind, size=0.6, aspect=0.8, shear=0.2, angle=angle, shift=(0.05, -0.05)).draw(100))
    expected = area * 0.6**2 * 0.8 * 50**2
    assert image.sum() / 255 == pytest.approx(expected, rel=0.02)


def test_triangle_points_up_and_turns_anticlockwise():
    upright = np.asarray(Figure("triangle", 0.8).draw(64)).astype(int)
    assert upright[:32].sum() < upright[32:].sum()
    turned = np.asarray(Figure("triangle", 0.8, angle=90).draw(64)).astype(int)
    assert turned[:, :32].sum() < turned[:, 32:].sum()


def test_edges_are_anti_aliased():
    values = np.unique(np.asarray(Figure("ellipse", 0.5).draw(28)))
    assert values[0] == 0
    assert values[-1] == 255
    assert len(values) > 4
