"""What the operations on populations ask of their arguments, of torch, and of a machine without the extension."""

import subprocess
import sys

import pytest
import torch

from pydyn.models.tiny import TinyCNN
from pydyn.ops import population_evaluate, reference
from pydyn.ops.extension import EXTENSION
from tests.ops.small_populations import drawn, needs_extension, orders, random_images


@needs_extension
def test_passes_torchs_own_checks():
    architecture = TinyCNN((2, 3), (6, 6))
    images, parameters = random_images(architecture, 10), drawn(architecture, 2)
    ops, tests = torch.ops.pydyn, ("test_schema", "test_faketensor")
    arguments = [2, 3], 3, False, 0.2, 0.4
    state = parameters, torch.zeros(2, 2, architecture.n_parameters), torch.tensor([0.1, 0.1]), torch.tensor([0, 2])
    torch.library.opcheck(
        ops.population_epoch.default,
        (images.pixels, images.labels, orders(2, 10), *state, *arguments, False, 0, 4),
        test_utils=tests,
    )
    torch.library.opcheck(ops.population_evaluate.default, (images.pixels, parameters, *arguments), test_utils=tests)
    torch.library.opcheck(
        ops.ablate_filters.default, (images.pixels, images.labels, parameters[0], *arguments), test_utils=tests
    )


SMALL = TinyCNN((2,), (6, 6))
SOUND = {
    "images": torch.zeros(9, 6, 6, dtype=torch.uint8),
    "labels": torch.zeros(9, dtype=torch.int64),
    "order": torch.zeros(1, 4, dtype=torch.int64),
    "parameters": torch.zeros(1, SMALL.n_parameters),
    "moments": torch.zeros(1, 2, SMALL.n_parameters),
    "learning_rates": torch.zeros(1),
    "optimisers": torch.zeros(1, dtype=torch.int64),
    "filters": [2],
    "n_classes": 3,
    "output_relu": False,
    "mean": 0.0,
    "std": 1.0,
    "clipped": False,
    "step": 0,
    "batch_size": 2,
}


@pytest.mark.parametrize("op", ["kernel", "reference"])
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("images", torch.zeros(9, 6, 6), TypeError, "images must be"),
        ("images", torch.zeros(9, 3, 6, dtype=torch.uint8), ValueError, "at least 4"),
        ("images", torch.zeros(9, 6, dtype=torch.uint8), ValueError, r"\(N, H, W\)"),
        ("labels", torch.zeros(8, dtype=torch.int64), ValueError, "labels must be contiguous of shape"),
        ("labels", torch.full((9,), 3), IndexError, "labels holds 3.*allowed are 0 to 2"),
        ("order", torch.full((1, 4), 9), IndexError, "order holds 9.*allowed are 0 to 8"),
        ("order", torch.full((1, 4), -1), IndexError, "order holds -1.*allowed are 0 to 8"),
        ("order", torch.zeros(2, 4, dtype=torch.int64), ValueError, "order must be contiguous of shape"),
        ("parameters", torch.zeros(1, 76), ValueError, r"parameters must be contiguous of shape \[1, 77\]"),
        ("moments", torch.zeros(1, 2, 77, dtype=torch.float64), TypeError, "moments must be"),
        ("learning_rates", torch.zeros(2), ValueError, "learning_rates must be contiguous of shape"),
        ("optimisers", torch.full((1,), 3), IndexError, "optimisers holds 3.*allowed are 0 to 2"),
        ("filters", [2, 2, 2], ValueError, "must be of 1 or 2 layers"),
        ("filters", [65], ValueError, "must each be in 1 to 64"),
        ("n_classes", 1, ValueError, "n_classes = 1 must be in 2 to 64"),
        ("std", 0.0, ValueError, "std = 0"),
        ("step", -1, ValueError, "step = -1 must be at least 0"),
        ("batch_size", 0, ValueError, "batch_size = 0 must be at least 1"),
    ],
)
def test_refuses(op, name, value, error, message):
    if op == "kernel" and not EXTENSION.loaded:
        pytest.skip(EXTENSION.problem or "")
    function = torch.ops.pydyn.population_epoch.default if op == "kernel" else reference.population_epoch
    function(*SOUND.values())
    with pytest.raises(error, match=message):
        function(*(SOUND | {name: value}).values())


def test_refuses_images_of_another_size():
    architecture = TinyCNN((2, 2), (8, 8))
    with pytest.raises(ValueError, match=r"images of \(9, 8\) do not fit a network for \(8, 8\)"):
        population_evaluate(architecture, random_images(TinyCNN((2, 2), (9, 8)), 3), drawn(architecture, 1))


HIDDEN_EXTENSION = """
import sys, warnings
sys.modules["pydyn._C"] = None
import torch
from pydyn.models.tiny import TinyCNN
from pydyn.ops import GreyImages, ablate_filters, population_epoch, population_evaluate
architecture = TinyCNN((2, 2), (8, 8))
images = GreyImages(torch.zeros(6, 8, 8, dtype=torch.uint8), torch.arange(6) % 3)
parameters = torch.zeros(2, architecture.n_parameters)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loss, correct = population_epoch(
        architecture, images, torch.arange(6).expand(2, 6).contiguous(), parameters, torch.zeros(2, 2, parameters.shape[1]),
        torch.ones(2), torch.zeros(2, dtype=torch.int64), step=0, batch_size=3,
    )
    predictions, active = population_evaluate(architecture, images, parameters)
    ablated = ablate_filters(architecture, images, parameters[0])
assert [str(w.filename) for w in caught] == ["<string>"], caught
assert torch.allclose(loss, torch.full((2,), 6 * 1.0986, dtype=torch.float64), atol=1e-3), loss
assert (predictions == 0).all() and ablated.tolist() == [2] * 5
"""


def test_without_extension_plain_torch_trains_and_one_warning_says_so():
    done = subprocess.run([sys.executable, "-c", HIDDEN_EXTENSION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
