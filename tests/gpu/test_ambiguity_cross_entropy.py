import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pydyn.ops import ambiguity_cross_entropy, reference

NAMES = ("loss", "losses", "margins", "weights", "correct", "gradient")


def run(op, logits, target, **options):
    inputs = logits.detach().clone().requires_grad_()
    terms = op(inputs, target, **options)
    (gradient,) = torch.autograd.grad(terms[0].sum(), inputs)
    return [*(term.detach() for term in terms), gradient]


def ours(logits, target, **options):
    return ambiguity_cross_entropy(logits, target, terms=True, **options)


def make(n_rows, n_classes, seed=0, scale=3.0):
    generator = torch.Generator("cuda").manual_seed(seed)
    logits = torch.randn(n_rows, n_classes, generator=generator, device="cuda", dtype=torch.float64) * scale
    target = torch.randint(0, n_classes, (n_rows,), generator=generator, device="cuda")
    return logits, target


@settings(max_examples=300)
@given(
    n_rows=st.sampled_from((0, 1, 7, 130, 2000)),
    n_classes=st.sampled_from((1, 2, 3, 10, 16, 31, 32, 33, 100, 256, 1000, 1024, 1025, 1028, 5000)),
    dtype=st.sampled_from((torch.float64, torch.float32, torch.float16, torch.bfloat16)),
    scale=st.sampled_from((0.0, 0.1, 3.0, 100.0)),
    ties=st.booleans(),
    ignored=st.sampled_from((0.0, 0.3, 1.0)),
    options=st.fixed_dictionaries(
        {
            "strength": st.sampled_from((0.0, 0.5, 4.0)),
            "power": st.sampled_from((0.5, 1.0, 2.0)),
            "label_smoothing": st.sampled_from((0.0, 0.1)),
            "reduction": st.sampled_from(("mean", "weighted_mean", "sum", "none")),
        }
    ),
    weighted=st.booleans(),
    seed=st.integers(0, 100),
)
def test_no_further_from_the_truth_than_eager_torch(
    n_rows, n_classes, dtype, scale, ties, ignored, options, weighted, seed
):
    logits, target = make(n_rows, n_classes, seed, scale)
    logits = (logits.round() if ties else logits).to(dtype)
    target[torch.rand(n_rows, generator=torch.Generator().manual_seed(seed)).cuda() < ignored] = -100
    if weighted:
        options["class_weight"] = torch.linspace(0.1, 2, n_classes, device="cuda")
    truth = run(reference.ambiguity_cross_entropy, logits.double(), target, **options)
    eager = run(reference.ambiguity_cross_entropy, logits, target, **options)
    rtol, atol = (1e-3, 1e-4) if dtype in (torch.float16, torch.bfloat16) else (1e-5, 1e-6)
    for name, got, other, true in zip(NAMES, run(ours, logits, target, **options), eager, truth, strict=True):
        assert got.shape == true.shape, name
        assert torch.equal(got.isnan(), true.isnan()), name
        if got.dtype == torch.bool:
            assert torch.equal(got, true)
            continue
        finite = true.isfinite()
        allowed = 1.5 * (other.double() - true)[finite].abs().amax().nan_to_num() if finite.any() else 0
        if name == "gradient" and "mean" in options["reduction"]:  # rounded before it is divided, and after
            allowed = allowed + torch.finfo(dtype).eps * true[finite].abs()
        assert ((got.double() - true)[finite].abs() <= allowed + atol + rtol * true[finite].abs()).all(), name


@pytest.mark.parametrize("n_classes", [10, 100, 2000])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_of_nan_is_nan_and_no_other(n_classes, bad):
    logits, target = make(50, n_classes)
    logits[7, n_classes - 1] = bad
    loss, _, margins, _, correct, gradient = run(ours, logits.float(), target, reduction="none")
    others = torch.arange(50, device="cuda") != 7
    assert loss[7].isnan() and margins[7].isnan() and gradient[7].isnan().all() and not correct[7]
    assert loss[others].isfinite().all() and gradient[others].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_classes", [10, 40])
def test_a_population_is_its_members(n_classes, dtype):
    logits = torch.randn(5, 700, n_classes, device="cuda").to(dtype)
    strengths = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0], device="cuda")
    pool = torch.randint(0, n_classes, (3000,), device="cuda")
    index = torch.randint(0, 3000, (5, 700), device="cuda")
    whole = run(ours, logits, pool, index=index, strength=strengths)
    for model in range(5):
        alone = run(ours, logits[model], pool[index[model]], strength=float(strengths[model]))
        assert all(torch.equal(got[model], wanted) for got, wanted in zip(whole, alone, strict=True))


def test_the_same_bits_every_time():
    logits, target = make(20_000, 10)
    first = run(ours, logits.float(), target)
    for _ in range(5):
        again = run(ours, logits.float(), target)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n_rows", [300, 424, 450])
def test_a_mean_in_half_precision_is_divided_by_the_number_of_rows_itself(dtype, n_rows):
    logits, target = make(n_rows, 10)
    of_sum, of_mean = (run(ours, logits.to(dtype), target, reduction=how)[-1] for how in ("sum", "mean"))
    scale = torch.tensor(1.0, device="cuda") / n_rows
    assert torch.equal(of_mean, (of_sum.float() * scale).to(dtype))


def test_a_scale_beyond_half_precision_is_taken_whole():
    inputs = torch.zeros(8, 10, dtype=torch.float16, device="cuda", requires_grad=True)
    target = torch.zeros(8, dtype=torch.int64, device="cuda")
    loss = ambiguity_cross_entropy(inputs, target, strength=0.0, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs, torch.full_like(loss, 2.0**16))  # as a GradScaler begins
    assert gradient.isfinite().all() and gradient[0, 0].item() == pytest.approx(-0.9 * 2**16, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upstream_gradients_scale(dtype):
    logits, target = make(300, 10)
    inputs = logits.to(dtype).requires_grad_()
    (3 * ambiguity_cross_entropy(inputs, target)).backward()
    torch.testing.assert_close(inputs.grad, 3 * run(ours, logits.to(dtype), target)[-1])


def test_gradcheck():
    logits, target = make(6, 5)

    def loss(inputs):
        return ambiguity_cross_entropy(inputs, target, strength=0.0, label_smoothing=0.1)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


def test_can_be_captured_and_does_not_wait_for_the_device():
    logits, target = make(512, 10)
    inputs = logits.float().requires_grad_()

    def step():
        loss = ambiguity_cross_entropy(inputs, target)
        return loss, torch.autograd.grad(loss, inputs)[0]

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, gradient = step()
    with torch.no_grad():
        inputs.mul_(2)
    graph.replay()
    wanted = run(ours, inputs, target)
    assert torch.equal(loss, wanted[0])
    assert torch.equal(gradient, wanted[-1])


def test_opcheck():
    logits, target = make(7, 5)
    arguments = (target, None, None, None, None, 1.0, 2.0, None, 0.1, -100, 1, True)
    torch.library.opcheck(torch.ops.pydyn.ambiguity_cross_entropy.default, (logits.requires_grad_(), *arguments))


def test_compiles_without_a_graph_break():
    @torch.compile(fullgraph=True)
    def loss(inputs, target):
        return ambiguity_cross_entropy(inputs * 2, target)

    logits, target = make(33, 10)
    inputs = logits.float().requires_grad_()
    loss(inputs, target).backward()
    torch.testing.assert_close(inputs.grad, 2 * run(ours, 2 * inputs, target)[-1])


@pytest.mark.parametrize("call", ["torch.tensor([0, 3])", "torch.tensor([0, 1]), index=torch.tensor([0, 2]).cuda()"])
def test_label_or_index_out_of_range_fails_a_device_assert(call):
    code = f"""
import torch
from pydyn.ops import ambiguity_cross_entropy
ambiguity_cross_entropy(torch.zeros(2, 3, device="cuda"), {call.replace("])", "]).cuda()", 1)})
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "device-side assert" in done.stderr
