"""Batch normalisation, ReLU and dropout of a population against torch's modules, one model at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pydyn.ops import batch_norm_relu_dropout, batch_norm_relu_dropout_backward, reference
from pydyn.ops.extension import EXTENSION

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=f"no extension: {EXTENSION.problem}")
OPS = [
    pytest.param(batch_norm_relu_dropout, id="op"),
    pytest.param(reference.batch_norm_relu_dropout, id="reference"),
]


def layer(shape: tuple[int, int, int], dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Units, weight, bias, uniforms and rates, the first of which is 0."""
    n_models, n_units, n_rows = shape
    generator = torch.Generator().manual_seed(seed)
    computing = torch.float64 if dtype == torch.float64 else torch.float32
    draw = lambda draws, *size: draws(*size, generator=generator, dtype=computing)  # noqa: E731
    units = (draw(torch.randn, *shape) * 3 + 1).to(dtype)
    rates = draw(torch.rand, n_models) * 0.9
    rates[0] = 0
    return [
        units,
        draw(torch.randn, n_models, n_units),
        draw(torch.randn, n_models, n_units),
        draw(torch.rand, n_units, n_rows),
        rates,
    ]


def gradients(op, arguments: list[Tensor | None], upstream: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in arguments[:3]]
    return list(torch.autograd.grad(op(*leaves, *arguments[3:])[0], leaves, upstream))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 4, 33), (2, 5, 64)])
def test_equals_torchs_modules(op, shape):
    units, weight, bias, uniforms, rates = layer(shape)
    upstream = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    activations, mean, variance = op(units, weight, bias, uniforms, rates)
    ours = gradients(op, [units, weight, bias, uniforms, rates], upstream)
    for model in range(shape[0]):
        norm = nn.BatchNorm1d(shape[1], dtype=torch.float64)
        with torch.no_grad():
            norm.weight.copy_(weight[model])
            norm.bias.copy_(bias[model])
        inputs = units[model].t().clone().requires_grad_()
        kept = (uniforms >= rates[model]).double() / (1 - rates[model])
        outputs = torch.relu(norm(inputs)) * kept.t()
        torch.testing.assert_close(activations[model], outputs.t())
        outputs.backward(upstream[model].t())
        for mine, theirs in zip(ours, (inputs.grad.t(), norm.weight.grad, norm.bias.grad), strict=True):
            torch.testing.assert_close(mine[model], theirs)
        running = 0.1 * variance[model] * shape[2] / (shape[2] - 1) + 0.9
        torch.testing.assert_close(norm.running_mean, 0.1 * mean[model])
        torch.testing.assert_close(norm.running_var, running)


@needs_extension
@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(2, 70)),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_equals_the_reference(shape, dtype, dropout, seed):
    arguments = layer(shape, dtype, seed)
    if not dropout:
        arguments[3:] = [None, None]
    for one, other in zip(
        batch_norm_relu_dropout(*arguments), reference.batch_norm_relu_dropout(*arguments), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    upstream = torch.randn(shape, dtype=arguments[1].dtype, generator=torch.Generator().manual_seed(seed))
    ours = gradients(batch_norm_relu_dropout, arguments, upstream)
    # A value within rounding of 0 may pass ReLU in one and not in the other: such models are left out.
    units, weight, bias = (tensor.double() for tensor in arguments[:3])
    variance, mean = torch.var_mean(units, -1, correction=0, keepdim=True)
    before_relu = (units - mean) * (variance + 1e-5).rsqrt() * weight[..., None] + bias[..., None]
    clear = before_relu.abs().amin((1, 2)) > 1e-5
    theirs = gradients(reference.batch_norm_relu_dropout, arguments, upstream)
    tolerance = 1e-3 if dtype in (torch.float32, torch.float64) else 2e-2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one[clear], other[clear], rtol=tolerance, atol=tolerance)


@needs_extension
def test_passes_torchs_own_checks():
    arguments = layer((2, 3, 18))
    leaves = [tensor.requires_grad_() for tensor in arguments[:3]]
    torch.library.opcheck(torch.ops.pydyn.batch_norm_relu_dropout.default, (*leaves, *arguments[3:]))
    assert torch.autograd.gradcheck(lambda *leaves: batch_norm_relu_dropout(*leaves, *arguments[3:])[0], leaves)
    compiled = torch.compile(batch_norm_relu_dropout, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*arguments)[0], batch_norm_relu_dropout(*arguments)[0])


@needs_extension
def test_second_derivatives_are_refused():
    units, *others = layer((2, 3, 18))
    activations, _, _ = batch_norm_relu_dropout(units.requires_grad_(), *others)
    with pytest.raises(RuntimeError, match=r"second derivatives \(create_graph=True\) are not supported"):
        torch.autograd.grad(activations.sum(), units, create_graph=True)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_forward_mode_derivative_is_not_lost(position):
    arguments = layer((3, 4, 33))

    def activations(tensor):
        return batch_norm_relu_dropout(*arguments[:position], tensor, *arguments[position + 1 :])[0]

    along = arguments[position].flip(-1)
    _, got = torch.func.jvp(activations, (arguments[position],), (along,))
    step = 1e-6
    expected = (activations(arguments[position] + step * along) - activations(arguments[position] - step * along)) / (
        2 * step
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@needs_extension
def test_the_backward_operation_equals_its_reference():
    units, weight, bias, uniforms, rates = layer((3, 4, 37), torch.float32)
    activations, mean, variance = batch_norm_relu_dropout(units, weight, bias, uniforms, rates)
    upstream = torch.randn(3, 4, 37, generator=torch.Generator().manual_seed(2))
    for given_rates in (rates, None):
        arguments = (upstream, units, activations, weight, mean, variance, given_rates)
        ours = batch_norm_relu_dropout_backward(*arguments)
        for one, other in zip(ours, reference.batch_norm_relu_dropout_backward(*arguments), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@needs_extension
def test_any_number_of_threads_and_any_population_give_the_same():
    arguments = layer((8, 128, 100), torch.float32)
    upstream = torch.ones(8, 128, 100)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = gradients(batch_norm_relu_dropout, arguments, upstream)
        torch.set_num_threads(1)
        one_thread = gradients(batch_norm_relu_dropout, arguments, upstream)
    finally:
        torch.set_num_threads(before)
    units, weight, bias, uniforms, rates = arguments
    alone = gradients(
        batch_norm_relu_dropout, [units[5:6], weight[5:6], bias[5:6], uniforms, rates[5:6]], upstream[5:6]
    )
    for one, other, single in zip(together, one_thread, alone, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one[5], single[0])


@pytest.mark.parametrize("op", OPS)
def test_NaN_stays_NaN_and_in_its_unit(op):
    units, weight, bias, _, _ = layer((2, 3, 20), torch.float32)
    units[1, 2, 4] = float("nan")
    activations = op(units, weight, bias)[0]
    assert activations[1, 2].isnan().all()
    activations[1, 2] = 0
    assert not activations.isnan().any()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"units": torch.zeros(2, 3, 1)},
            ValueError,
            r"\(K, H, B\) with B at least 2, for a variance, got \[2, 3, 1\]",
        ),
        ({"units": torch.zeros(3, 4)}, ValueError, r"units must have shape \(K, H, B\)"),
        ({"units": torch.zeros(2, 3, 4, dtype=torch.int64)}, TypeError, "units must be bfloat16, float16"),
        ({"weight": torch.zeros(2, 4)}, ValueError, r"weight must have shape \[2, 3\] for units of shape \[2, 3, 4\]"),
        ({"bias": torch.zeros(2, 3).double()}, TypeError, "bias must be .*loat.* for units of"),
        ({"uniforms": torch.zeros(3, 4)}, ValueError, "uniforms and rates go together"),
        ({"rates": torch.zeros(2)}, ValueError, "uniforms and rates go together"),
        ({"rates": torch.zeros(3), "uniforms": torch.zeros(3, 4)}, ValueError, r"rates must have shape \[2\]"),
        ({"rates": torch.zeros(2), "uniforms": torch.zeros(4, 3)}, ValueError, r"uniforms must have shape \[3, 4\]"),
    ],
)
def test_refuses(op, changes, error, message):
    arguments = {"units": torch.zeros(2, 3, 4), "weight": torch.ones(2, 3), "bias": torch.zeros(2, 3)}
    with pytest.raises(error, match=message):
        op(**{**arguments, **changes})


def test_the_reference_refuses_two_devices():
    with pytest.raises(ValueError, match="units is on cpu and weight on meta; put both on one device"):
        reference.batch_norm_relu_dropout(torch.zeros(2, 3, 4), torch.ones(2, 3, device="meta"), torch.zeros(2, 3))
