"""Cross-entropy in which ambiguous samples count for more, with its gradient in the same pass."""

from typing import Any, Literal, NamedTuple, cast, overload

import torch
from torch import Tensor, nn

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, warn_reference

Reduction = Literal["mean", "weighted_mean", "sum", "none"]

# As csrc/loss.h numbers them.
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2, "weighted_mean": 3}


class AmbiguityTerms(NamedTuple):
    """The loss, and what it was made of: for selection strategies and histories, at no further pass.

    Only the loss has a gradient.
    """

    loss: Tensor
    """As `ambiguity_cross_entropy` returns it."""
    losses: Tensor
    """(B,) or (K, B): cross-entropy of each sample, before its ambiguity weight; 0 where ignored."""
    margins: Tensor
    """(B,) or (K, B), in [0, 1]: top-1 minus top-2 probability."""
    weights: Tensor
    """(B,) or (K, B): ambiguity weight, at least 1; 0 where ignored."""
    correct: Tensor
    """(B,) or (K, B), bool: whether the first largest logit is the label's; False where ignored or NaN."""


@overload
def ambiguity_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    index: Tensor | None = None,
    strength: float | Tensor = 1.0,
    power: float | Tensor = 1.0,
    threshold: float | None = None,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    terms: Literal[False] = False,
) -> Tensor: ...
@overload
def ambiguity_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    index: Tensor | None = None,
    strength: float | Tensor = 1.0,
    power: float | Tensor = 1.0,
    threshold: float | None = None,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    terms: Literal[True],
) -> AmbiguityTerms: ...
def ambiguity_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    index: Tensor | None = None,
    strength: float | Tensor = 1.0,
    power: float | Tensor = 1.0,
    threshold: float | None = None,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    terms: bool = False,
) -> Tensor | AmbiguityTerms:
    """Cross-entropy of each sample times its ambiguity weight.

    With p = softmax(logits) and the margin m = p_(1) - p_(2) of the two largest probabilities, a sample weighs
    `1 + strength * (1 - m) ** power`, or, with a threshold, `1 + strength` where m < threshold and 1 elsewhere. The weight
    is a constant in the gradient. The source (a paper on pre-computed features and ambiguity-weighted training) weights
    samples near the decision boundary without giving a formula; this one is ours. With strength 0 it is
    `torch.nn.functional.cross_entropy` with hard labels.

    Loss and gradient come from one pass over the logits, which are not overwritten; the backward pass scales the gradient.
    torch.compile takes it in without a graph break. There is no second derivative: `create_graph=True` is refused, and
    `pydyn.ops.reference.ambiguity_cross_entropy` has it.

    Parameters
    ----------
    logits : floating Tensor of shape (B, C) or (K, B, C)
        float16 and bfloat16 are computed in float32, with a gradient of their own dtype. On a CPU that of float16 is made before
        the factor of a loss scaler reaches it, and is 0 where it is below 3e-8: give `logits.float()` there. (K, B, C): a
        population of K models.
    target : int64 Tensor of shape (B,) or (K, B), on the same device
        Labels in [0, C), or `ignore_index`; (B,) serves all models alike. With `index`: the labels (N,) of the whole pool.
    index : int64 Tensor of shape (B,) or (K, B), optional
        Rows of the pool in the batch: sample i has the label target[index[i]].
    strength : float, at least 0, or for a population a floating Tensor of shape (K,)
        0: plain cross-entropy; 1: what is wholly ambiguous counts double. A tensor's values are not checked.
    power : float, at least 0, or for a population a floating Tensor of shape (K,)
        How much the weight concentrates on small margins; not used with a threshold.
    threshold : float, 0 to 1, optional
        Margin below which a sample is ambiguous.
    class_weight : floating Tensor of shape (C,), on the same device, optional
        Factor of each class's samples, as `weight` of torch's cross-entropy.
    label_smoothing : float, 0 to 1
        Share of the target spread evenly over all classes.
    ignore_index : int
        Label of samples that count nowhere.
    reduction : {"mean", "weighted_mean", "sum", "none"}
        "mean" divides by the sum of the labels' class weights, as torch does, so that ambiguity adds to the loss;
        "weighted_mean" by that of ambiguity weight times class weight. Over no samples both are NaN, as in torch.
    terms : bool
        Return `AmbiguityTerms`.

    Returns
    -------
    Tensor of shape () or (K,), with reduction "none" (B,) or (K, B); or AmbiguityTerms
        float32, or float64 for float64 logits. A sample whose logits hold NaN or +infinity, or nothing but -infinity, is NaN.

    Raises
    ------
    ValueError
        If a shape, a range or a device is wrong, or anything but the logits requires a gradient; the message names the argument.
    TypeError
        If a dtype is wrong.
    IndexError
        If a label or an index is out of range; the message names the first. On CUDA a device-side assert fails instead, as
        in torch's own cross-entropy.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"ambiguity_cross_entropy: reduction = {reduction!r} is none of mean, weighted_mean, sum, none"
        )
    for name, constant in (("class_weight", class_weight), ("strength", strength), ("power", power)):
        if isinstance(constant, Tensor) and constant.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"ambiguity_cross_entropy: {name} gets no gradient; give {name}.detach()")
    if not EXTENSION.loaded:
        warn_reference()
        loss, *others = reference.ambiguity_cross_entropy(
            logits,
            target,
            index=index,
            strength=strength,
            power=power,
            threshold=threshold,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            reduction=reduction,
        )
        # Detached: who keeps an epoch's losses would keep all its graphs.
        return AmbiguityTerms(loss, *(term.detach() for term in others)) if terms else loss
    loss, _, _, per_sample, correct = torch.ops.pydyn.ambiguity_cross_entropy.default(
        logits,
        target,
        index,
        class_weight,
        strength if isinstance(strength, Tensor) else None,
        power if isinstance(power, Tensor) else None,
        0.0 if isinstance(strength, Tensor) else strength,
        1.0 if isinstance(power, Tensor) else power,
        threshold,
        label_smoothing,
        ignore_index,
        _REDUCTIONS[reduction],
        logits.requires_grad and torch.is_grad_enabled(),
    )
    if not terms:
        return cast(Tensor, loss)
    losses, margins, weights = per_sample.unbind()
    return AmbiguityTerms(loss, losses, margins, weights, correct)


class AmbiguityCrossEntropy(nn.Module):
    """`ambiguity_cross_entropy` as a module, in the place of `torch.nn.CrossEntropyLoss` with hard labels.

    Parameters are those of the function; `class_weight` moves with the module. Its class weights are no part of its
    `state_dict`: they describe the data, not the model.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        strength: float = 1.0,
        power: float = 1.0,
        *,
        threshold: float | None = None,
        class_weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.strength = strength
        self.power = power
        self.threshold = threshold
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.register_buffer("class_weight", class_weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (B, C) or (K, B, C) and labels (B,) or (K, B)."""
        return ambiguity_cross_entropy(
            logits,
            target,
            strength=self.strength,
            power=self.power,
            threshold=self.threshold,
            class_weight=self.class_weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        names = ("strength", "power", "threshold", "label_smoothing", "ignore_index", "reduction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _fake(logits: Tensor, target: Tensor, *options: Any) -> tuple[Tensor, ...]:
    reduction, with_gradient = options[-2:]
    computing = torch.float64 if logits.dtype == torch.float64 else torch.float32
    models, rows = logits.shape[:-2], logits.shape[:-1]
    return (
        logits.new_empty(rows if reduction == _REDUCTIONS["none"] else models, dtype=computing),
        torch.empty_like(logits, memory_format=torch.contiguous_format) if with_gradient else logits.new_empty(0),
        logits.new_empty(models, dtype=computing),
        logits.new_empty((3, *rows), dtype=computing),
        logits.new_empty(rows, dtype=torch.bool),
    )


def _reference(
    logits: Tensor,
    target: Tensor,
    index: Tensor | None,
    class_weight: Tensor | None,
    strengths: Tensor | None,
    powers: Tensor | None,
    strength: float,
    power: float,
    threshold: float | None,
    label_smoothing: float,
    ignore_index: int,
    reduction: int,
    with_gradient: bool,
) -> tuple[Tensor, ...]:
    """The op on a device for which no kernel was compiled."""
    with torch.enable_grad():
        inputs = logits.detach().requires_grad_(with_gradient)
        loss, losses, margins, weights, correct = reference.ambiguity_cross_entropy(
            inputs,
            target,
            index=index,
            strength=strength if strengths is None else strengths,
            power=power if powers is None else powers,
            threshold=threshold,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            reduction={number: name for name, number in _REDUCTIONS.items()}[reduction],  # type: ignore[arg-type]
        )
        gradient = torch.autograd.grad(loss.sum(), inputs)[0].contiguous() if with_gradient else logits.new_empty(0)
    divisor = loss.new_ones(logits.shape[:-2])
    return (loss.detach(), gradient, divisor, torch.stack([losses, margins, weights]).detach(), correct)


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::ambiguity_cross_entropy", _fake)
    torch.library.impl("pydyn::ambiguity_cross_entropy", "default", _reference)
