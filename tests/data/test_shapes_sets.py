"""The data sets of study `shapes`: the same bytes on every machine."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from pydyn.data.shapes import figure, shapes_image
from pydyn.data.store import ImageStore

DECLARATIONS = {
    "shapes-1.2": {"size": [0.1, 0.9]},
    "shapes-1.3": {"size": [0.3, 0.9]},
    "shapes-2.1": {"size": [0.7, 0.7], "rotate": True},
}
# Published: of the bytes of 6,000 images to train on and 3,000 to test on, in their order.
DIGESTS = {
    "shapes-1.2": "dca02d74cf8a3c5761b090b8fd3e48e2eee2fcbbecaa2fca5d1d66e2dd28661a",
    "shapes-1.3": "70465816f343751a50dc064b96e2c4dba54a25c28bb5a4c9730c4205e9d529bf",
    "shapes-2.1": "59acf8b3b2ac499dd110e441dea452d7aa01dfb4807aae896c35f4007343f032",
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_bytes_of_the_whole_sets_are_as_published(declare, name):
    dataset = declare(source="shapes", **DECLARATIONS[name])
    digest = hashlib.sha256()
    for part, count in (("train", dataset.train), ("test", dataset.test)):
        for index in range(count):
            digest.update(np.asarray(shapes_image(dataset, part, index)).tobytes())
    assert digest.hexdigest() == DIGESTS[name]


def test_a_store_holds_these_bytes_and_as_many_of_each_class(prepared):
    store: ImageStore = prepared(source="shapes", **DECLARATIONS["shapes-2.1"])
    assert hashlib.sha256(store.images().tobytes()).hexdigest() == DIGESTS["shapes-2.1"]
    assert store.class_names == ("ellipse", "rectangle", "triangle")
    # What other protocols hold out for validation is trained on here.
    for parts, count in ((("train", "validation"), 2000), (("test",), 1000)):
        np.testing.assert_array_equal(np.bincount(store.labels[store.indices(*parts)]), [count] * 3)


BASELINE = """
import hashlib, json, sys
import numpy as np
from pydantic import TypeAdapter
from pydyn.config.datasets import AnyDataset
from pydyn.data.shapes import shapes_image
dataset = TypeAdapter(AnyDataset).validate_json(sys.argv[1])
print(hashlib.sha256(b"".join(np.asarray(shapes_image(dataset, "train", i)).tobytes() for i in range(300))).hexdigest())
"""


def test_numpys_instructions_make_no_difference():
    """NumPy has sines and cosines of its own for wide vectors, which may differ from the C library's in the last bit."""
    declaration = '{"source": "shapes", "size": [0.1, 0.9], "rotate": true, "aspect": 0.5, "shear": 0.4, "shift": 0.2}'
    features = "X86_V4 X86_V3 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR AVX2 FMA3"
    digests = {
        subprocess.run(
            [sys.executable, "-c", BASELINE, declaration],
            env=os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for disabled in ("", features)
    }
    assert len(digests) == 1


def test_what_an_image_shows_is_known(declare):
    """Sizes and angles, which the analyses choose images by and count failures by."""
    sized = declare(source="shapes", **DECLARATIONS["shapes-1.2"])
    turned = declare(source="shapes", **DECLARATIONS["shapes-2.1"])
    figures = [figure(sized, "test", index) for index in range(300)]
    assert min(one.size for one in figures) < 0.12
    assert {one.angle for one in figures} == {0.0}
    figures = [figure(turned, "test", index) for index in range(300)]
    assert [one.size for one in figures] == pytest.approx([0.7] * 300)
    assert max(one.angle for one in figures) > 350
