"""What the loss weighted by ambiguity asks of its arguments, and of torch: its own checks, and compilation."""

import math

import pytest
import torch

from pydyn.ops import ambiguity_cross_entropy, reference
from tests.ops.logits import make_labels, make_logits, needs_extension, ours


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("bad", [-1, 50, 2**40, -(2**40)])
def test_a_label_or_index_out_of_range_is_named(n_classes, bad):
    logits, target = make_logits(20, n_classes), make_labels(20, n_classes=n_classes)
    target[[12, 15]] = bad
    with pytest.raises(IndexError, match=rf"target.* {bad} is out of range: logits have {n_classes} classes"):
        ambiguity_cross_entropy(logits, target)
    index = torch.zeros(20, dtype=torch.int64)
    index[[12, 15]] = bad
    with pytest.raises(IndexError, match=rf"index.* {bad} is out of range: target has 5 labels"):
        ambiguity_cross_entropy(logits, torch.zeros(5, dtype=torch.int64), index=index)


@pytest.mark.parametrize("op", [ambiguity_cross_entropy, reference.ambiguity_cross_entropy])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"logits": torch.zeros(4, 3).long()}, TypeError, "logits must be float16, bfloat16, float32 or float64"),
        ({"logits": torch.zeros(3)}, ValueError, r"logits must have shape \(B, C\) or \(K, B, C\)"),
        ({"logits": torch.zeros(4, 0)}, ValueError, "at least 1 class"),
        ({"target": torch.zeros(4)}, TypeError, "target must be int64"),
        (
            {"target": torch.zeros(4, 3).long()},
            ValueError,
            r"target must have shape \[4\] for logits of shape \[4, 3\]",
        ),
        ({"target": torch.zeros(5).long()}, ValueError, r"target must have shape \[4\].*got \[5\]"),
        ({"index": torch.zeros(5).long()}, ValueError, r"index must have shape \[4\]"),
        ({"index": torch.zeros(4)}, TypeError, "index must be int64"),
        (
            {"index": torch.zeros(4).long(), "target": torch.zeros(2, 2).long()},
            ValueError,
            r"target must have shape \(N,\)",
        ),
        ({"strength": -1.0}, ValueError, "strength = -1.* is not a finite number of at least 0"),
        ({"power": math.inf}, ValueError, "power = inf is not a finite"),
        ({"strength": torch.zeros(4)}, ValueError, r"may be tensors for logits of shape \(K, B, C\) only"),
        ({"logits": torch.zeros(2, 4, 3), "strength": torch.zeros(3)}, ValueError, r"strength must have shape \[2\]"),
        ({"logits": torch.zeros(2, 4, 3), "power": torch.zeros(2).long()}, TypeError, "power must be floating point"),
        ({"threshold": 1.5}, ValueError, "threshold = 1.5 is not in 0 to 1"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing = -0.1 is not in 0 to 1"),
        ({"class_weight": torch.ones(4)}, ValueError, r"class_weight must have shape \[3\]"),
        ({"class_weight": torch.ones(3).long()}, TypeError, "class_weight must be floating point"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(op, changed, error, message):
    arguments = {"logits": torch.zeros(4, 3), "target": torch.zeros(4).long()} | changed
    with pytest.raises(error, match=message):
        op(**arguments)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction = 'average' is none of mean, weighted_mean, sum, none"):
        ambiguity_cross_entropy(torch.zeros(4, 3), torch.zeros(4).long(), reduction="average")


@needs_extension
@pytest.mark.parametrize("shape", [(7, 5), (7, 40), (3, 7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", [0, 1, 3])
def test_opcheck(shape, dtype, reduction):
    logits = make_logits(*shape, dtype=dtype).requires_grad_()
    vectors = (torch.ones(3), torch.ones(3)) if len(shape) == 3 else (None, None)
    arguments = (
        make_labels(7, n_classes=5),
        None,
        torch.ones(shape[-1]),
        *vectors,
        1.0,
        2.0,
        None,
        0.1,
        -100,
        reduction,
    )
    torch.library.opcheck(torch.ops.pydyn.ambiguity_cross_entropy.default, (logits, *arguments, True))


@needs_extension
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "none"])
def test_compiles_without_a_graph_break(backend, reduction):
    @torch.compile(fullgraph=True, backend=backend)
    def loss(inputs, weight, target):
        terms = ambiguity_cross_entropy(inputs @ weight, target, reduction=reduction, terms=True)
        return terms.loss.sum(), terms.margins

    inputs, weight, target = make_logits(33, 8), make_logits(8, 5).requires_grad_(), make_labels(33, n_classes=5)
    compiled, margins = loss(inputs, weight, target)
    compiled.backward()
    gradient, weight.grad = weight.grad, None
    terms = ours(inputs @ weight, target, reduction=reduction)
    terms.loss.sum().backward()
    torch.testing.assert_close(compiled, terms.loss.sum())
    torch.testing.assert_close(margins, terms.margins)
    torch.testing.assert_close(gradient, weight.grad)
