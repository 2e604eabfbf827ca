"""Populations of tiny networks: the kernels against autograd in float64, against plain torch, and against themselves."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from pydyn.models.initialisers import initial_parameters
from pydyn.models.tiny import TinyCNN
from pydyn.ops import OPTIMISERS, GreyImages, ablate_filters, population_epoch, population_evaluate, reference
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")
ADAM = OPTIMISERS.index("adam")


def random_images(architecture, n_images, seed=0, mean=0.2, std=0.4, levels=256):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, levels, (n_images, *architecture.image_size), dtype=np.uint8)
    labels = generator.integers(0, architecture.n_classes, n_images)
    return GreyImages(torch.from_numpy(pixels), torch.from_numpy(labels), mean, std)


def drawn(architecture, n_members, initialiser="glorot_uniform", seed=0):
    draws = [
        initial_parameters(architecture, initialiser, np.random.default_rng([seed, member]))
        for member in range(n_members)
    ]
    return torch.stack(draws)


class Trained:
    """Members trained for an epoch from parameters (K, P), which stay as they are; by a function of the op's own arguments."""

    def __init__(
        self,
        architecture,
        images,
        parameters,
        order,
        optimiser="adam",
        rates=None,
        batch_size=32,
        op=None,
        clipped=False,
    ):
        n_members = len(parameters)
        self.parameters = parameters.clone()
        self.moments = torch.zeros(n_members, 2, architecture.n_parameters)
        rates = torch.full((n_members,), 1e-3) if rates is None else rates
        state = self.parameters, self.moments, rates, torch.full((n_members,), OPTIMISERS.index(optimiser))
        if op is None:
            found = population_epoch(
                architecture, images, order, *state, step=0, batch_size=batch_size, clipped=clipped
            )
        else:
            network = list(architecture.filters), architecture.n_classes, architecture.output_relu
            network = *network, images.mean, images.std
            found = op(images.pixels, images.labels, order, *state, *network, clipped, 0, batch_size)
        self.loss, self.correct = found


def orders(n_members, n_images, length=None, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([generator.permutation(n_images)[:length] for _ in range(n_members)]))


def first_gradient(trained):
    # Adam's first moment after one step is a tenth of the gradient.
    return trained.moments[:, 0].double() / 0.1


def true_gradient(architecture, images, parameters, index, clipped=False):
    """Loss and gradient of one batch by autograd in float64."""
    network = architecture.module(parameters.double())
    outputs = network(images.take(index).normalised().double())
    losses = cross_entropy(outputs, images.labels[index], reduction="none")
    loss = (losses.clamp(2.0**-23, -np.log(1e-7)) if clipped else losses).mean()
    loss.backward()
    return loss.detach(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def relative(ours, truth):
    return ((ours - truth).norm() / truth.norm()).item() if truth.norm() > 0 else ours.norm().item()


@st.composite
def exact_cases(draw):
    """Networks whose convolutions are exact in float32, so that both precisions agree on every winner, ties included.

    With large dense weights, many images' losses lie where clipped ones have no gradient.
    """
    filters = draw(st.lists(st.integers(1, 20), min_size=1, max_size=2))
    architecture = TinyCNN(
        tuple(filters),
        (draw(st.integers(4, 19)), draw(st.integers(4, 19))),
        draw(st.integers(2, 5)),
        draw(st.booleans()),
    )
    seed = draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    parts = {}
    for name, shape in architecture.shapes.items():
        if name.startswith("conv"):
            parts[name] = torch.from_numpy(generator.integers(-8, 9, shape) / 8).float()
        else:
            deviation = draw(st.sampled_from([0.05, 2.0])) / architecture.n_features**0.5
            parts[name] = torch.from_numpy(generator.normal(0, deviation, shape)).float()
    images = random_images(architecture, 40, seed, mean=0.0, std=1 / 255, levels=8)
    return architecture, architecture.join(parts), images, draw(st.integers(1, 40))


@needs_extension
@settings(deadline=None, max_examples=40)
@given(exact_cases(), st.booleans())
def test_gradient_is_that_of_autograd(case, clipped):
    architecture, parameters, images, batch = case
    order = orders(1, len(images), batch)
    trained = Trained(architecture, images, parameters[None], order, batch_size=batch, clipped=clipped)
    loss, truth = true_gradient(architecture, images, parameters, order[0], clipped)
    assert trained.loss.item() / batch == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
    ours = architecture.split(first_gradient(trained)[0])
    # Outputs of some hundreds are rounded to a hundred thousandth, and their gradients may all but cancel.
    limit = 1e-5 if architecture.split(parameters)["dense.weight"].abs().max() < 0.1 else 2e-4
    for name, part in architecture.split(truth).items():
        assert (ours[name] - part).norm() <= 1e-12 + limit * max(part.norm(), 0.01 * truth.norm()), name


@needs_extension
@pytest.mark.parametrize("filters", [(2, 2), (4, 4), (16, 4), (2, 16), (64, 64), (33, 7), (8,), (64,)])
def test_gradient_of_the_studies_sizes(filters):
    architecture = TinyCNN(filters)
    images, parameters = random_images(architecture, 32), drawn(architecture, 1)
    order = orders(1, 32)
    ours = first_gradient(Trained(architecture, images, parameters, order))[0]
    assert relative(ours, true_gradient(architecture, images, parameters[0], order[0])[1]) < 1e-5


@needs_extension
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("filters", [(4, 3), (5,)])
def test_epoch_is_that_of_the_reference(optimiser, filters):
    architecture = TinyCNN(filters, (12, 13), 4)
    images, parameters = random_images(architecture, 50), drawn(architecture, 5)
    rates = torch.tensor([0.001, 0.003, 0.01, 0.02, 0.03])
    order = orders(5, 50)
    arguments = architecture, images, parameters, order, optimiser, rates, 16
    ours, theirs = Trained(*arguments), Trained(*arguments, reference.population_epoch)
    # Within a hundredth of one step. Adam and RMSprop take a step of about the same length whatever the gradient's: where
    # the first one's is so small that its terms' rounding, each processor's own, tells, only the steps' lengths bound it.
    first = zip(parameters, order[:, :16], strict=True)
    exact = torch.stack([true_gradient(architecture, images, *case)[1] for case in first]).abs()
    is_rounding = (exact > 0) & (exact < 1e-6 * exact.norm(dim=1, keepdim=True))
    assert is_rounding.float().mean() < 0.01
    opposite_ways = 2 * 4 / 0.1**0.5  # in four batches, by RMSprop's longest steps
    steps = torch.where(is_rounding & (optimiser != "sgd"), opposite_ways, 0.01)
    assert ((ours.parameters - theirs.parameters).abs() <= steps * rates[:, None]).all()
    torch.testing.assert_close(ours.moments, theirs.moments, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.correct, theirs.correct)


class KerasAdam(torch.optim.Optimizer):
    """torch adds epsilon to another root."""

    def __init__(self, parameters, rate):
        super().__init__(parameters, {})
        self.rate, self.t, self.m, self.v = rate, 0, {}, {}

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p in self.param_groups[0]["params"]:
            self.m[p] = 0.9 * self.m.get(p, 0) + 0.1 * p.grad
            self.v[p] = 0.999 * self.v.get(p, 0) + 0.001 * p.grad**2
            rate = self.rate * (1 - 0.999**self.t) ** 0.5 / (1 - 0.9**self.t)
            p -= rate * self.m[p] / (self.v[p].sqrt() + 1e-7)


@pytest.mark.parametrize(
    ("optimiser", "theirs"),
    [
        ("sgd", lambda parameters: torch.optim.SGD(parameters, 0.02)),
        ("rmsprop", lambda parameters: torch.optim.RMSprop(parameters, 0.02, alpha=0.9, eps=1e-7)),
        ("adam", lambda parameters: KerasAdam(parameters, 0.02)),
    ],
)
def test_optimisers_are_as_published(optimiser, theirs):
    architecture = TinyCNN((3, 2), (8, 8))
    images, parameters = random_images(architecture, 40), drawn(architecture, 1, "he_normal")
    order = orders(1, 40)
    trained = Trained(architecture, images, parameters, order, optimiser, torch.tensor([0.02]), 8)
    network = architecture.module(parameters[0])
    step = theirs(network.parameters())
    for index in order[0].split(8):
        step.zero_grad()
        cross_entropy(network(images.take(index).normalised()), images.labels[index]).backward()
        step.step()
    expected = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    torch.testing.assert_close(trained.parameters[0], expected, rtol=1e-3, atol=1e-4)


@needs_extension
@pytest.mark.parametrize("filters", [(2, 2), (9, 20), (3,)])
def test_a_member_is_the_same_alone_and_on_any_number_of_threads(filters):
    architecture = TinyCNN(filters, (14, 14))
    images, parameters, order = random_images(architecture, 70), drawn(architecture, 5), orders(5, 70)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = Trained(architecture, images, parameters, order)
        torch.set_num_threads(1)
        for member in range(5):
            alone = Trained(architecture, images, parameters[member : member + 1], order[member : member + 1])
            for name in ("parameters", "moments", "loss", "correct"):
                assert torch.equal(getattr(alone, name)[0], getattr(together, name)[member])
    finally:
        torch.set_num_threads(before)


@needs_extension
@pytest.mark.parametrize("filters", [(3, 5), (6,)])
def test_a_diverged_member_leaves_nothing_behind(filters):
    architecture = TinyCNN(filters, (9, 11))
    images, parameters, order = random_images(architecture, 70), drawn(architecture, 3), orders(3, 70)
    alone = Trained(architecture, images, parameters[2:], order[2:])
    parameters[:2] = torch.nan
    together = Trained(architecture, images, parameters, order)
    assert torch.equal(alone.parameters[0], together.parameters[2])


def test_reference_trains_a_member_alike_alone():
    architecture = TinyCNN((4, 4), (12, 12))
    images, parameters, order = random_images(architecture, 48), drawn(architecture, 6), orders(6, 48)
    op = reference.population_epoch
    together = Trained(architecture, images, parameters, order, op=op)
    alone = Trained(architecture, images, parameters[2:3], order[2:3], op=op)
    torch.testing.assert_close(alone.parameters[0], together.parameters[2], rtol=1e-5, atol=1e-6)


@needs_extension
def test_steps_go_on_where_an_epoch_ended():
    architecture = TinyCNN((3, 4), (9, 10))
    images, order = random_images(architecture, 64), orders(1, 64)
    whole = Trained(architecture, images, drawn(architecture, 1), order, batch_size=16)
    parameters, moments = drawn(architecture, 1), torch.zeros(1, 2, architecture.n_parameters)
    for step, part in enumerate(order.split(32, dim=1)):
        population_epoch(
            architecture, images, part.contiguous(), parameters, moments, torch.tensor([1e-3]), torch.tensor([ADAM]),
            step=2 * step, batch_size=16,
        )  # fmt: skip
    assert torch.equal(parameters, whole.parameters)
    assert torch.equal(moments, whole.moments)


@pytest.mark.parametrize("op", [None, reference.population_epoch])
@pytest.mark.parametrize("name", ["parameters", "moments"])
def test_what_was_computed_from_the_numbers_before_has_no_gradient_any_more(op, name):
    if op is None and not EXTENSION.loaded:
        pytest.skip(EXTENSION.problem)
    architecture = TinyCNN((3, 4), (9, 10))
    changed = {"parameters": drawn(architecture, 1), "moments": torch.zeros(1, 2, architecture.n_parameters)}
    product = (torch.ones((), requires_grad=True) * changed[name]).sum()
    images = random_images(architecture, 8)
    options = torch.tensor([1e-3]), torch.tensor([ADAM])
    if op is None:
        population_epoch(architecture, images, orders(1, 8), *changed.values(), *options, step=0, batch_size=8)
    else:
        settings = (3, 4), architecture.n_classes, architecture.output_relu, 0.0, 1.0, False, 0, 8
        op(images.pixels, images.labels, orders(1, 8), *changed.values(), *options, *settings)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@needs_extension
def test_a_network_without_living_units_stays_as_it_is():
    architecture = TinyCNN((2, 2), (8, 8), output_relu=True)
    parts = architecture.split(drawn(architecture, 1)[0])
    parts["dense.bias"] = torch.full((3,), -1000.0)
    parameters = architecture.join(parts)[None]
    images = random_images(architecture, 33)
    trained = Trained(architecture, images, parameters, orders(1, 33))
    assert torch.equal(trained.parameters, parameters)
    assert trained.loss.item() == pytest.approx(33 * np.log(3))
    assert trained.correct.item() == (images.labels == 0).sum()  # of equal outputs the first


@pytest.mark.parametrize("op", [None, reference.population_epoch])
def test_clipped_losses_and_their_gradients(op):
    """One image, whose own class has the probability that the outputs' biases give it."""
    architecture = TinyCNN((2, 2), (8, 8))
    images = random_images(architecture, 1)
    label = images.labels.item()
    for bias, expected, trains in [
        (-17.0, -np.log(1e-7), False),
        (-15.0, np.log1p(2 * np.exp(15.0)), True),
        (15.0, np.log1p(2 * np.exp(-15.0)), True),
        (18.0, 2.0**-23, False),
    ]:
        parts = architecture.split(torch.zeros(architecture.n_parameters))
        parts["dense.bias"][label] = bias
        parameters = architecture.join(parts)[None]
        trained = Trained(architecture, images, parameters, orders(1, 1), "sgd", torch.ones(1), op=op, clipped=True)
        assert trained.loss.item() == pytest.approx(expected, rel=1e-5, abs=2e-7 if op else 0)
        assert torch.equal(trained.parameters, parameters) != trains


@needs_extension
@pytest.mark.parametrize("name", ["conv1.weight", "conv2.bias", "dense.weight"])
def test_a_diverged_training_says_so(name):
    architecture = TinyCNN((2, 2), (8, 8))
    images, parameters = random_images(architecture, 64), drawn(architecture, 1)
    architecture.split(parameters)[name].fill_(torch.nan)
    trained = Trained(architecture, images, parameters, orders(1, 64))
    assert trained.loss.isnan().all()
    assert trained.correct == (images.labels == 0).sum()
    assert (population_evaluate(architecture, images, trained.parameters)[0] == 0).all()


@pytest.mark.parametrize("op", ["kernel", "reference"])
@pytest.mark.parametrize("filters", [(3, 5), (6,)])
@pytest.mark.parametrize("output_relu", [False, True])
def test_evaluation_is_that_of_the_module(op, filters, output_relu, monkeypatch):
    if op == "reference":
        monkeypatch.setattr(reference.population, "EVALUATED_AT_ONCE", 50)
    architecture = TinyCNN(filters, (11, 14), 4, output_relu)
    images = random_images(architecture, 37)
    parameters = drawn(architecture, 4)
    parts = architecture.split(parameters)
    parts["conv1.bias"][0, 1] = -100  # a dead filter
    parts["dense.bias"][1, 2] = -100  # a dead output
    if op == "kernel":
        predictions, active = population_evaluate(architecture, images, parameters)
    else:
        arguments = list(filters), 4, output_relu, images.mean, images.std
        predictions, active = reference.population_evaluate(images.pixels, parameters, *arguments)
    for member in range(4):
        module = architecture.module(parameters[member])
        maps, units = images.normalised(), []
        for layer in module:
            maps = layer(maps)
            if isinstance(layer, torch.nn.MaxPool2d):
                units.append((maps > 0).flatten(2).any(2).any(0))
            if isinstance(layer, torch.nn.Linear):
                units.append((maps > 0).any(0))
        assert torch.equal(predictions[member].long(), maps.argmax(1))
        assert torch.equal(active[member], torch.cat(units))
    assert not active[0, 1]
    assert not active[1, sum(filters) + 2]


def n_correct(architecture, images, parameters):
    predictions, _ = population_evaluate(architecture, images, parameters[None])
    return (predictions[0] == images.labels).sum().item()


def without(architecture, parameters, layer, position):
    """The smaller network that is left when a filter is removed."""
    parts = dict(architecture.split(parameters))
    kept = [filter for filter in range(architecture.filters[layer]) if filter != position]
    for name in ("weight", "bias"):
        parts[f"conv{layer + 1}.{name}"] = parts[f"conv{layer + 1}.{name}"][kept]
    reader = f"conv{layer + 2}.weight" if layer + 1 < len(architecture.filters) else "dense.weight"
    count = architecture.filters[layer]
    parts[reader] = parts[reader].unflatten(1, (count, -1))[:, kept].flatten(1, 2)
    filters = list(architecture.filters)
    filters[layer] -= 1
    smaller = TinyCNN(tuple(filters), architecture.image_size, architecture.n_classes, architecture.output_relu)
    return smaller, smaller.join(parts)


@needs_extension
@settings(deadline=None, max_examples=25)
@given(
    filters=st.lists(st.integers(2, 19), min_size=1, max_size=2),
    size=st.tuples(st.integers(4, 17), st.integers(4, 17)),
    n_classes=st.integers(2, 4),
    output_relu=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_ablation_equals_the_smaller_networks(filters, size, n_classes, output_relu, seed):
    architecture = TinyCNN(tuple(filters), size, n_classes, output_relu)
    images, parameters = random_images(architecture, 150, seed), drawn(architecture, 1, "he_normal", seed)[0]
    found = ablate_filters(architecture, images, parameters).tolist()
    expected = [n_correct(architecture, images, parameters)]
    for layer, count in enumerate(filters):
        for position in range(count):
            smaller, rest = without(architecture, parameters, layer, position)
            expected.append(n_correct(smaller, images, rest))
    assert found == expected


@pytest.mark.parametrize("filters", [(1, 4), (3, 1), (2,)])
def test_ablation_in_plain_torch_and_of_a_layers_last_filter(filters):
    architecture = TinyCNN(filters, (10, 10))
    images, parameters = random_images(architecture, 60), drawn(architecture, 1)[0]
    arguments = list(filters), 3, False, images.mean, images.std
    expected = reference.ablate_filters(images.pixels, images.labels, parameters, *arguments)
    assert expected.shape == (1 + sum(filters),)
    assert torch.equal(ablate_filters(architecture, images, parameters), expected)


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
