"""Training of populations of tiny networks: the kernel against autograd in float64, plain torch, and itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from pydyn.models.tiny import TinyCNN
from pydyn.ops import OPTIMISERS, population_epoch, population_evaluate, reference
from pydyn.ops.extension import EXTENSION
from tests.ops.small_populations import Trained, drawn, needs_extension, orders, random_images

ADAM = OPTIMISERS.index("adam")


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
@settings(max_examples=40)
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
