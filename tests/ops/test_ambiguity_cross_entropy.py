"""The loss weighted by ambiguity: values and gradients against torch in float64, alone and in populations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from pydyn.ops import AmbiguityCrossEntropy, ambiguity_cross_entropy, reference
from pydyn.ops import loss as loss_module
from pydyn.ops.extension import EXTENSION, Extension
from tests.ops.logits import make_labels, make_logits, needs_extension, ours

REDUCTIONS = ("mean", "weighted_mean", "sum", "none")
CLASSES = (1, 2, 3, 10, 16, 17, 31, 32, 33, 100, 1000)


def run(op, logits, target, upstream=None, **options):
    """The five terms and the gradient of an op that gives a tuple of terms."""
    inputs = logits.detach().clone().requires_grad_()
    terms = op(inputs, target, **options)
    upstream = torch.ones_like(terms[0]) if upstream is None else upstream.to(terms[0].dtype)
    (gradient,) = torch.autograd.grad(terms[0], inputs, upstream)
    return [*(term.detach() for term in terms), gradient]


@st.composite
def calls(draw):
    n_rows, n_classes = draw(st.integers(0, 130)), draw(st.sampled_from(CLASSES))
    seed = draw(st.integers(0, 1000))
    logits = make_logits(n_rows, n_classes, scale=draw(st.sampled_from((0.0, 0.1, 3.0, 100.0, 1e4))), seed=seed)
    if draw(st.booleans()):
        logits = logits.round()  # ties
    target = make_labels(n_rows, n_classes=n_classes, seed=seed)
    ignored = torch.rand(n_rows, generator=torch.Generator().manual_seed(seed)) < draw(st.sampled_from((0.0, 0.3, 1.0)))
    target[ignored] = -100
    options = {
        "strength": draw(st.sampled_from((0.0, 0.5, 4.0))),
        "power": draw(st.sampled_from((0.0, 0.5, 1.0, 2.0, 3.0))),
        "threshold": draw(st.sampled_from((None, None, 0.0, 0.3, 1.0))),
        "label_smoothing": draw(st.sampled_from((0.0, 0.1, 1.0))),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
    }
    if draw(st.booleans()):
        options["class_weight"] = torch.rand(n_classes, generator=torch.Generator().manual_seed(seed)) + 0.1
    return logits, target, options


@settings(max_examples=400)
@given(call=calls(), dtype=st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
def test_no_further_from_the_truth_than_eager_torch(call, dtype):
    logits, target, options = call
    logits = logits.to(dtype)
    if options["threshold"] is not None and options["strength"]:
        # Keep clear of margins so near to the threshold that rounding decides.
        margins = reference.ambiguity_cross_entropy(logits.double(), target, **options)[2]
        target = torch.where((margins - options["threshold"]).abs() < 1e-5, -100, target)
    truth = run(reference.ambiguity_cross_entropy, logits.double(), target, **options)
    eager = run(reference.ambiguity_cross_entropy, logits, target, **options)
    rtol, atol = (1e-5, 1e-6) if dtype == torch.float32 else (1e-3, 1e-4)
    names = ("loss", "losses", "margins", "weights", "correct", "gradient")
    for name, got, other, true in zip(names, run(ours, logits, target, **options), eager, truth, strict=True):
        assert got.shape == true.shape, name
        assert torch.equal(got.isnan(), true.isnan()), name
        if got.dtype == torch.bool:
            assert torch.equal(got, true)
            continue
        finite = true.isfinite()
        error = (got.double() - true)[finite].abs()
        allowed = 1.5 * (other.double() - true)[finite].abs().amax().nan_to_num() if finite.any() else torch.zeros(())
        assert (error <= allowed + atol + rtol * true[finite].abs()).all(), (name, error.max())


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
@pytest.mark.parametrize("n_classes", [10, 100])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gradient_in_half_precision_is_rounded_once(dtype, n_classes, reduction):
    logits = make_logits(40, n_classes, dtype=torch.float32).to(dtype)
    target = make_labels(40, n_classes=n_classes)
    gradient = run(ours, logits, target, reduction=reduction)[-1]
    truth = run(reference.ambiguity_cross_entropy, logits.double(), target, reduction=reduction)[-1]
    smallest = torch.finfo(dtype).smallest_normal
    assert ((gradient.double() - truth).abs() <= torch.finfo(dtype).eps / 2 * 1.01 * truth.abs() + smallest).all()


@pytest.mark.parametrize("n_classes", [2, 10, 50])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_strength_it_is_torchs_cross_entropy(n_classes, reduction, label_smoothing, weighted):
    logits = make_logits(37, n_classes, dtype=torch.float64)
    target = make_labels(37, n_classes=n_classes)
    target[::5] = 1
    class_weight = torch.rand(n_classes, dtype=torch.float64) + 0.5 if weighted else None
    options = {"reduction": reduction, "label_smoothing": label_smoothing, "ignore_index": 1}

    def torchs(inputs, target):
        return (cross_entropy(inputs, target, weight=class_weight, **options),)

    def with_terms(inputs, target):
        return (ambiguity_cross_entropy(inputs, target, strength=0.0, class_weight=class_weight, **options),)

    upstream = torch.randn(37, dtype=torch.float64) if reduction == "none" else None
    for got, wanted in zip(
        run(with_terms, logits, target, upstream), run(torchs, logits, target, upstream), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_a_sample_worked_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]).log()
    terms = ambiguity_cross_entropy(logits, torch.tensor([1, 0]), strength=2.0, power=2.0, terms=True)
    assert terms.margins.tolist() == pytest.approx([0.2, 0.85])
    assert terms.weights.tolist() == pytest.approx([1 + 2 * 0.8**2, 1 + 2 * 0.15**2])
    assert terms.losses.tolist() == pytest.approx([-math.log(0.3), -math.log(0.9)])
    assert terms.correct.tolist() == [False, True]
    assert float(terms.loss) == pytest.approx(-(2.28 * math.log(0.3) + 1.045 * math.log(0.9)) / 2)
    in_threshold = ambiguity_cross_entropy(logits, torch.tensor([1, 0]), strength=2.0, threshold=0.5, terms=True)
    assert in_threshold.weights.tolist() == [3, 1]


def test_the_weighted_mean_divides_by_the_weights():
    logits, target = make_logits(20, 4), make_labels(20, n_classes=4)
    terms = ambiguity_cross_entropy(logits, target, reduction="weighted_mean", terms=True)
    torch.testing.assert_close(terms.loss, (terms.weights * terms.losses).sum() / terms.weights.sum())


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(n_classes, reduction):
    logits = make_logits(6, n_classes, dtype=torch.float64, scale=1.0).requires_grad_()
    target = make_labels(6, n_classes=n_classes)

    def loss(inputs):
        return ambiguity_cross_entropy(inputs, target, strength=0.0, label_smoothing=0.1, reduction=reduction)

    assert torch.autograd.gradcheck(loss, (logits,))


@pytest.mark.parametrize("n_classes", [3, 40])
def test_the_weight_is_a_constant_in_the_gradient(n_classes):
    logits, target = make_logits(30, n_classes, dtype=torch.float64), make_labels(30, n_classes=n_classes)
    *_, weights, _, gradient = run(ours, logits, target, strength=5.0, power=2.0)
    inputs = logits.clone().requires_grad_()
    (weights * cross_entropy(inputs, target, reduction="none")).mean().backward()
    torch.testing.assert_close(gradient, inputs.grad)


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, "all -inf"])
def test_a_row_that_is_no_distribution_is_nan_and_no_other(n_classes, dtype, bad):
    logits, target = make_logits(20, n_classes, dtype=dtype), make_labels(20, n_classes=n_classes)
    if bad == "all -inf":
        logits[7] = -math.inf
    else:
        logits[7, n_classes - 1] = bad
    loss, losses, margins, _, correct, gradient = run(ours, logits, target, reduction="none")
    others = torch.arange(20) != 7
    for values in (loss, losses, margins):
        assert values[7].isnan()
        assert values[others].isfinite().all()
    assert gradient[7].isnan().all()
    assert gradient[others].isfinite().all()
    assert not correct[7]
    assert ambiguity_cross_entropy(logits, target).isnan()
    target[7] = -100
    assert ambiguity_cross_entropy(logits, target).isfinite()
    assert (run(ours, logits, target)[-1][7] == 0).all()


@pytest.mark.parametrize("n_classes", [3, 40])
def test_an_impossible_class_has_no_probability(n_classes):
    logits, target = make_logits(5, n_classes), torch.zeros(5, dtype=torch.int64)
    logits[:, 1] = -math.inf
    loss, *_, gradient = run(ours, logits, target)
    assert loss.isfinite()
    assert (gradient[:, 1] == 0).all()
    assert ambiguity_cross_entropy(logits, target + 1) == math.inf


@pytest.mark.parametrize("n_rows", [0, 3])
def test_nothing_to_average_over_is_nan_as_in_torch(n_rows):
    logits, target = make_logits(n_rows, 4), torch.full((n_rows,), -100)
    loss, *_, gradient = run(ours, logits, target)
    assert loss.isnan()
    assert (gradient == 0).all()
    assert run(ours, logits, target, reduction="sum")[0] == 0


def test_views_with_strides_are_taken():
    logits, target = make_logits(40, 12), make_labels(40, n_classes=6)
    wanted = run(ours, logits[::2, ::2].contiguous(), target[::2].contiguous())
    for got, expected in zip(run(ours, logits[::2, ::2], target[::2]), wanted, strict=True):
        assert torch.equal(got, expected)
    inputs = logits.t().contiguous().requires_grad_()
    ambiguity_cross_entropy(inputs.t()[:, :6], target).backward()
    assert torch.equal(inputs.grad.t()[:, :6], run(ours, logits[:, :6], target)[-1])


def test_labels_may_stay_in_the_pool():
    logits, pool = make_logits(20, 5), make_labels(300, n_classes=5)
    index = make_labels(20, n_classes=300)
    for got, wanted in zip(run(ours, logits, pool, index=index), run(ours, logits, pool[index]), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", ["shared", "own", "shared index", "own index"])
def test_a_population_is_its_members(n_classes, reduction, form):
    n_models, n_rows = 5, 70
    logits = make_logits(n_models, n_rows, n_classes)
    strengths, powers = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    pool = make_labels(200, n_classes=n_classes)
    index = make_labels(n_models, n_rows, n_classes=200)
    index = index[0] if "shared" in form else index
    labels = {"target": pool, "index": index} if "index" in form else {"target": pool[index]}
    upstream = make_logits(n_models, *([n_rows] if reduction == "none" else []))
    options = {"reduction": reduction, "label_smoothing": 0.1}
    whole = run(ours, logits, upstream=upstream, strength=strengths, power=powers, **labels, **options)
    for model in range(n_models):
        own = pool[index if index.dim() == 1 else index[model]]
        hyper = {"strength": float(strengths[model]), "power": float(powers[model])}
        alone = run(ours, logits[model], own, upstream[model], **hyper, **options)
        assert all(torch.equal(got[model], wanted) for got, wanted in zip(whole, alone, strict=True))


@pytest.mark.parametrize("labels", [{"target": torch.zeros(4).long()}, {"target": torch.zeros(0, 4).long()}])
def test_a_population_of_none_has_no_loss(labels):
    loss, losses, *_, gradient = run(ours, torch.zeros(0, 4, 3), **labels)
    assert loss.shape == (0,) and losses.shape == (0, 4) and gradient.shape == (0, 4, 3)


def test_thread_count_changes_nothing():
    logits, target = make_logits(5000, 20), make_labels(5000, n_classes=20)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(run(ours, logits, target, reduction="weighted_mean"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(got, wanted) for got, wanted in zip(result, results[0], strict=True))


def test_logits_stay_as_they_are_and_gradients_can_be_had_twice():
    logits, target = make_logits(20, 5), make_labels(20, n_classes=5)
    inputs = logits.clone().requires_grad_()
    loss = ambiguity_cross_entropy(inputs, target)
    loss.backward(retain_graph=True)
    once = inputs.grad.clone()
    (3 * loss).backward()
    assert torch.equal(inputs, logits)
    torch.testing.assert_close(inputs.grad, 4 * once)


def test_a_gradient_that_flows_on_is_not_shared():
    weight = make_logits(5, 5).requires_grad_()
    target = make_labels(20, n_classes=5)
    logits = make_logits(20, 5) @ weight
    (
        2 * ambiguity_cross_entropy(logits, target) + logits.square().sum() + ambiguity_cross_entropy(logits, target)
    ).backward()
    got, weight.grad = weight.grad, None
    logits = make_logits(20, 5) @ weight
    (3 * reference.ambiguity_cross_entropy(logits, target)[0] + logits.square().sum()).backward()
    torch.testing.assert_close(got, weight.grad)


def test_a_gradient_that_is_a_view_of_its_negative_is_taken_as_it_is():
    inputs = make_logits(20, 5).requires_grad_()
    loss = ambiguity_cross_entropy(inputs, make_labels(20, n_classes=5))
    minus_one = torch._neg_view(torch.tensor(1.0))
    (ours,) = torch.autograd.grad(loss, inputs, minus_one, retain_graph=True)
    (expected,) = torch.autograd.grad(loss, inputs, torch.tensor(-1.0))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("extension", [EXTENSION, Extension("hidden by a test")])
def test_only_the_loss_has_a_gradient(extension, monkeypatch):
    monkeypatch.setattr(loss_module, "EXTENSION", extension)
    monkeypatch.setattr(loss_module, "warn_reference", lambda: None)
    terms = ours(make_logits(20, 5).requires_grad_(), make_labels(20, n_classes=5))
    assert [term.requires_grad for term in terms] == [True, False, False, False, False]


@pytest.mark.parametrize("name", ["class_weight", "strength", "power"])
def test_what_gets_no_gradient_must_not_ask_for_one(name):
    logits, target = make_logits(2, 20, 5), make_labels(20, n_classes=5)
    constant = torch.ones(5 if name == "class_weight" else 2, requires_grad=True)
    with pytest.raises(ValueError, match=rf"{name} gets no gradient; give {name}\.detach\(\)"):
        ambiguity_cross_entropy(logits.requires_grad_(), target, **{name: constant})
    with torch.no_grad():
        ambiguity_cross_entropy(logits, target, **{name: constant})


@needs_extension
def test_second_derivatives_are_refused():
    inputs = make_logits(20, 5).requires_grad_()
    loss = ambiguity_cross_entropy(inputs, make_labels(20, n_classes=5))
    with pytest.raises(RuntimeError, match=r"second derivatives .* are not supported; use pydyn\.ops\.reference"):
        torch.autograd.grad(loss, inputs, create_graph=True)


def test_without_gradients_the_values_are_the_same():
    logits, target = make_logits(20, 5), make_labels(20, n_classes=5)
    with torch.no_grad():
        quiet = ours(logits.clone().requires_grad_(), target)
    assert not quiet.loss.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(quiet, run(ours, logits, target), strict=False))


def test_under_autocast_it_takes_half_precision_logits():
    layer, inputs = torch.nn.Linear(8, 4), make_logits(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(inputs)
        loss = ambiguity_cross_entropy(logits, make_labels(16, n_classes=4))
    loss.backward()
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert layer.weight.grad.dtype == torch.float32


def test_the_module_stands_in_for_torchs():
    data, target = make_logits(64, 6), make_labels(64, n_classes=3)
    weights = []
    for criterion in (
        AmbiguityCrossEntropy(strength=0.0, class_weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1),
        torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1),
    ):
        model = torch.nn.Linear(6, 3)
        model.weight.data = make_logits(3, 6)
        model.bias.data.zero_()
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(5):
            optimiser.zero_grad()
            criterion(model(data), target).backward()
            optimiser.step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_the_module_moves_its_class_weights_and_keeps_no_state():
    criterion = AmbiguityCrossEntropy(2.0, 3.0, class_weight=torch.ones(3)).double()
    assert criterion.class_weight.dtype == torch.float64
    assert criterion.state_dict() == {}
    assert "strength=2.0, power=3.0, threshold=None" in repr(criterion)
