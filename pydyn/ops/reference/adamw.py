"""A step of AdamW for a population in plain torch."""

import math

import torch
from torch import Tensor

from pydyn.ops.reference.checks import check_device

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

_HALF = (torch.bfloat16, torch.float16)


@torch.no_grad()
def adamw_(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    decays: Tensor,
    step: int,
    copy: Tensor | None = None,
) -> None:
    """Step all models of a population in place. Shapes, dtypes and errors are those of `pydyn.ops.adamw_`."""
    _check(weights, gradient, mean, square, rates, decays, step, copy)
    rate, decay = (value.reshape(-1, *[1] * (weights.dim() - 1)) for value in (rates, decays))
    gradient = gradient.float()
    mean.lerp_(gradient, 1 - BETA1)
    square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    scale = (square.sqrt() / math.sqrt(1 - BETA2**step)).add_(EPS)
    weights.mul_(1 - rate * decay).sub_(rate / (1 - BETA1**step) * mean / scale)
    if copy is not None:
        copy.copy_(weights)


def _check(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    decays: Tensor,
    step: int,
    copy: Tensor | None,
) -> None:
    if weights.dim() < 1:
        raise ValueError("adamw_: weights must have at least 1 dimension (models first), got a scalar")
    for name, tensor in (("weights", weights), ("mean", mean), ("square", square)):
        if tensor.dtype != torch.float32:
            raise TypeError(f"adamw_: {name} must be float32, got {tensor.dtype}")
        _check_shape(name, tensor, weights)
        if not tensor.is_contiguous():
            raise ValueError(f"adamw_: {name} must be contiguous: it is changed in place")
    if gradient.dtype not in (torch.float32, *_HALF):
        raise TypeError(f"adamw_: gradient must be float32, bfloat16 or float16, got {gradient.dtype}")
    _check_shape("gradient", gradient, weights)
    if copy is not None:
        if copy.dtype not in _HALF:
            raise TypeError(f"adamw_: copy must be bfloat16 or float16, got {copy.dtype}")
        _check_shape("copy", copy, weights)
        if not copy.is_contiguous():
            raise ValueError("adamw_: copy must be contiguous: it is changed in place")
        check_device("adamw_", "weights", weights, "copy", copy)
    for name, tensor in (("gradient", gradient), ("mean", mean), ("square", square)):
        check_device("adamw_", "weights", weights, name, tensor)
    for name, vector in (("rates", rates), ("decays", decays)):
        if vector.dtype != torch.float32:
            raise TypeError(f"adamw_: {name} must be float32, got {vector.dtype}")
        if vector.shape != weights.shape[:1]:
            raise ValueError(
                f"adamw_: {name} must have shape [{weights.shape[0]}], one for each model of weights, got "
                f"{list(vector.shape)}"
            )
        check_device("adamw_", "weights", weights, name, vector)
    if step < 1:
        raise ValueError(f"adamw_: step = {step} is not at least 1")


def _check_shape(name: str, tensor: Tensor, weights: Tensor) -> None:
    if tensor.shape != weights.shape:
        raise ValueError(f"adamw_: {name} must have weights' shape {list(weights.shape)}, got {list(tensor.shape)}")
