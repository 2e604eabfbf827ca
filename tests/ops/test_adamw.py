"""AdamW for a population against torch's own optimiser, one for each model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pydyn.ops import adamw_, reference
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=f"no extension: {EXTENSION.problem}")
STEPS = [pytest.param(adamw_, id="op"), pytest.param(lambda *a, **k: reference.adamw_(*a, **k), id="reference")]


def population(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, gradients of three steps, rates and decays."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(shape, generator=generator)
    gradients = torch.randn(3, *shape, generator=generator)
    rates = torch.rand(shape[0], generator=generator) * 1e-2 + 1e-4
    return weights, gradients, rates, torch.rand(shape[0], generator=generator)


def torchs(weights: Tensor, gradients: Tensor, rates: Tensor, decays: Tensor) -> Tensor:
    """Each model by an optimiser of its own, in float64."""
    models = []
    for model, (rate, decay) in enumerate(zip(rates.tolist(), decays.tolist(), strict=True)):
        parameter = nn.Parameter(weights[model].double())
        optimiser = torch.optim.AdamW([parameter], lr=rate, weight_decay=decay)
        for gradient in gradients:
            parameter.grad = gradient[model].double()
            optimiser.step()
        models.append(parameter.detach())
    return torch.stack(models)


def stepped(step, weights: Tensor, gradients: Tensor, rates: Tensor, decays: Tensor, copy: Tensor | None = None):
    weights = weights.clone()
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for number, gradient in enumerate(gradients, 1):
        step(weights, gradient, mean, square, rates=rates, decays=decays, step=number, copy=copy)
    return weights, mean, square


@pytest.mark.parametrize("step", STEPS)
@settings(max_examples=30)
@given(st.integers(1, 5), st.lists(st.integers(1, 40), min_size=0, max_size=2), st.integers(0, 2**32))
def test_equals_an_optimiser_for_each_model(step, n_models, rest, seed):
    arguments = population((n_models, *rest), seed)
    weights, _, _ = stepped(step, *arguments)
    torch.testing.assert_close(weights.double(), torchs(*arguments), rtol=1e-5, atol=1e-6)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 33), (2, 20_000), (0, 4), (4, 0), (7,)])
def test_equals_the_reference_in_every_dtype_and_writes_the_copy(dtype, shape):
    weights, gradients, rates, decays = population(shape)
    copies = [None, None] if dtype == torch.float32 else [torch.empty(shape, dtype=dtype) for _ in range(2)]
    ours = stepped(adamw_, weights, gradients.to(dtype), rates, decays, copies[0])
    theirs = stepped(lambda *a, **k: reference.adamw_(*a, **k), weights, gradients.to(dtype), rates, decays, copies[1])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    if copies[0] is not None:
        assert torch.equal(copies[0], ours[0].to(dtype))


@needs_extension
def test_a_model_steps_the_same_in_any_population_and_on_any_number_of_threads():
    weights, gradients, rates, decays = population((9, 10_001))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together, _, _ = stepped(adamw_, weights, gradients, rates, decays)
        torch.set_num_threads(1)
        one_thread, _, _ = stepped(adamw_, weights, gradients, rates, decays)
    finally:
        torch.set_num_threads(before)
    alone, _, _ = stepped(adamw_, weights[4:5], gradients[:, 4:5], rates[4:5], decays[4:5])
    assert torch.equal(together, one_thread)
    # A vector's tail is computed one by one, where a product may be rounded once less.
    torch.testing.assert_close(alone[0], together[4], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("step", STEPS)
def test_a_gradient_of_zero_moves_nothing_and_NaN_stays_in_its_model(step):
    weights, gradients, rates, _ = population((3, 40))
    gradients[:, 0] = 0
    gradients[:, 1, 7] = float("nan")
    result, _, _ = stepped(step, weights, gradients, rates, torch.zeros(3))
    assert torch.equal(result[0], weights[0])
    assert result.isnan().nonzero().tolist() == [[1, 7]]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["weights", "mean", "square", "copy"])
def test_what_was_computed_from_the_numbers_before_has_no_gradient_any_more(step, name):
    weights, gradients, rates, decays = population((2, 3))
    changed = {"weights": weights, "mean": weights * 0, "square": weights * 0, "copy": weights.bfloat16()}
    leaf = torch.ones(2, 3, requires_grad=True)
    product = (leaf * changed[name]).sum()
    step(**changed, gradient=gradients[0], rates=rates, decays=decays, step=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@needs_extension
def test_passes_torchs_own_checks():
    weights, gradients, rates, decays = population((3, 40))
    mean, square, copy = torch.zeros_like(weights), torch.zeros_like(weights), weights.bfloat16()
    torch.library.opcheck(torch.ops.pydyn.adamw_.default, (weights, gradients[0], mean, square, rates, decays, 2, copy))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weights": torch.zeros(2, 3, dtype=torch.float64)}, TypeError, "weights must be float32, got"),
        ({"weights": torch.tensor(0.0)}, ValueError, "weights must have at least 1 dimension"),
        ({"weights": torch.zeros(3, 2).t()}, ValueError, "weights must be contiguous"),
        ({"mean": torch.zeros(2, 4)}, ValueError, r"mean must have weights' shape \[2, 3\], got \[2, 4\]"),
        ({"square": torch.zeros(2, 3).bfloat16()}, TypeError, "square must be float32"),
        ({"gradient": torch.zeros(3, 2)}, ValueError, r"gradient must have weights' shape \[2, 3\], got \[3, 2\]"),
        ({"gradient": torch.zeros(2, 3).double()}, TypeError, "gradient must be float32, bfloat16 or float16"),
        ({"rates": torch.zeros(3)}, ValueError, r"rates must have shape \[2\], one for each model"),
        ({"decays": torch.zeros(2).double()}, TypeError, "decays must be float32"),
        ({"step": 0}, ValueError, "step = 0 is not at least 1"),
        ({"copy": torch.zeros(2, 3)}, TypeError, "copy must be bfloat16 or float16"),
        ({"copy": torch.zeros(2, 2).bfloat16()}, ValueError, "copy must .*weights' shape"),
        ({"copy": torch.zeros(3, 2).bfloat16().t()}, ValueError, "copy must be contiguous"),
    ],
)
def test_refuses(step, changes, error, message):
    arguments = {
        "weights": torch.zeros(2, 3),
        "gradient": torch.zeros(2, 3),
        "mean": torch.zeros(2, 3),
        "square": torch.zeros(2, 3),
        "rates": torch.ones(2),
        "decays": torch.ones(2),
        "step": 1,
    }
    with pytest.raises(error, match=message):
        step(**{**arguments, **changes})


def test_the_reference_refuses_two_devices():
    weights = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="weights is on cpu and gradient on meta; put both on one device"):
        reference.adamw_(weights, weights.to("meta"), weights, weights, torch.ones(2), torch.ones(2), 1)
