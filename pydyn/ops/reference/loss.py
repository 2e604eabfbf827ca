"""Ambiguity-weighted cross-entropy in plain torch."""

import math
from typing import Literal

import torch
from torch import Tensor

from pydyn.ops.reference.checks import check_device


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
    reduction: Literal["mean", "weighted_mean", "sum", "none"] = "mean",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cross-entropy weighted by ambiguity. Arguments and errors are those of `pydyn.ops.ambiguity_cross_entropy`.

    Differentiable in the logits as often as wanted. Returns loss, losses, margins, weights and correct, as `AmbiguityTerms`
    has them.
    """
    labels = _check_loss(logits, target, index, strength, power, threshold, class_weight, label_smoothing)
    labels = labels.expand(logits.shape[:-1])
    ignored = labels == ignore_index
    n_classes = logits.shape[-1]
    computing = torch.float64 if logits.dtype == torch.float64 else torch.float32
    out_of_range = ~ignored & ((labels < 0) | (labels >= n_classes))
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and out_of_range.any():
        raise IndexError(
            f"ambiguity_cross_entropy: target {int(labels[out_of_range][0])} is out of range: logits have {n_classes} "
            f"classes, so allowed are 0 to {n_classes - 1} and ignore_index = {ignore_index}"
        )
    known = labels.masked_fill(ignored, 0)
    each = torch.ones(n_classes, device=logits.device) if class_weight is None else class_weight
    each = each.to(computing)

    log_p = torch.log_softmax(logits.to(computing), -1)
    losses = -each[known] * log_p.gather(-1, known[..., None]).squeeze(-1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing / n_classes * (log_p * each).sum(-1)
    losses = losses.masked_fill(ignored, 0)

    with torch.no_grad():
        p = log_p.exp()
        top = p.topk(min(2, n_classes), -1).values
        margins = top[..., 0] - top[..., 1] if n_classes > 1 else top[..., 0]
        strengths, powers = (
            value.to(computing)[:, None] if isinstance(value, Tensor) else value for value in (strength, power)
        )
        extra = (1 - margins) ** powers if threshold is None else (margins < threshold).to(computing)
        # Without strength the weight is 1 whatever the margin, NaN too.
        plain = (strengths == 0) if isinstance(strengths, Tensor) else torch.tensor(strengths == 0)
        weights = 1 + strengths * extra.masked_fill(plain.to(logits.device), 0)
        weights = weights.masked_fill(ignored, 0)
        correct = (logits.argmax(-1) == labels) & ~ignored & ~margins.isnan()

    weighted = weights * losses
    if reduction == "none":
        return weighted, losses, margins, weights, correct
    total = weighted.sum(-1)
    if reduction != "sum":
        shares = each[known].masked_fill(ignored, 0)
        total = total / (shares if reduction == "mean" else shares * weights).sum(-1)
    return total, losses, margins, weights, correct


def _check_loss(
    logits: Tensor,
    target: Tensor,
    index: Tensor | None,
    strength: float | Tensor,
    power: float | Tensor,
    threshold: float | None,
    class_weight: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """Refuse what cannot be computed, and return the labels (B,) or (K, B)."""
    op = "ambiguity_cross_entropy"
    if logits.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"{op}: logits must be float16, bfloat16, float32 or float64, got {logits.dtype}")
    if logits.dim() not in (2, 3) or logits.shape[-1] < 1:
        raise ValueError(
            f"{op}: logits must have shape (B, C) or (K, B, C) with at least 1 class, got {list(logits.shape)}"
        )
    batched = logits.dim() == 3
    for name, integers in (("target", target), ("index", index)):
        if integers is None:
            continue
        if integers.dtype != torch.int64:
            raise TypeError(f"{op}: {name} must be int64, got {integers.dtype}")
        check_device(op, "logits", logits, name, integers)
    if index is not None and target.dim() != 1:
        raise ValueError(f"{op}: target must have shape (N,) where there is an index, got {list(target.shape)}")
    given = target if index is None else index
    shapes = [logits.shape[1:2], logits.shape[:2]] if batched else [logits.shape[:1]]
    if given.shape not in shapes:
        raise ValueError(
            f"{op}: {'target' if index is None else 'index'} must have shape [{logits.shape[-2]}] "
            f"{'or that for each model ' if batched else ''}for logits of shape {list(logits.shape)}, got "
            f"{list(given.shape)}"
        )
    for name, value in (("strength", strength), ("power", power)):
        if isinstance(value, Tensor):
            if not batched:
                raise ValueError(
                    f"{op}: strength and power may be tensors for logits of shape (K, B, C) only, got "
                    f"{list(logits.shape)}"
                )
            _check_vector(name, value, logits.shape[0], logits)
        elif not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{op}: {name} = {value} is not a finite number of at least 0")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"{op}: threshold = {threshold} is not in 0 to 1")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing = {label_smoothing} is not in 0 to 1")
    if class_weight is not None:
        _check_vector("class_weight", class_weight, logits.shape[-1], logits)
    if index is None:
        return target
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and index.numel():
        bad = (index < 0) | (index >= target.shape[0])
        if bad.any():
            raise IndexError(
                f"{op}: index {int(index[bad][0])} is out of range: target has {target.shape[0]} labels, so allowed are "
                f"0 to {target.shape[0] - 1}"
            )
    return target[index]


def _check_vector(name: str, vector: Tensor, size: int, logits: Tensor) -> None:
    op = "ambiguity_cross_entropy"
    if vector.shape != (size,):
        raise ValueError(f"{op}: {name} must have shape [{size}], got {list(vector.shape)}")
    if not vector.is_floating_point():
        raise TypeError(f"{op}: {name} must be floating point, got {vector.dtype}")
    check_device(op, "logits", logits, name, vector)
