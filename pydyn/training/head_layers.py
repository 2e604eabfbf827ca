"""The layers of many heads at once, as tensor operations. The batch comes last, so that a unit's numbers lie side by side."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pydyn.ops.reference.hidden import EPS


def product(weight: Tensor, features: Tensor) -> Tensor:
    """Weights (K, U, D) times features (B, D): (K, U, B), as one matrix product."""
    n_heads, n_units, _ = weight.shape
    return (weight.flatten(0, 1) @ features.t()).view(n_heads, n_units, len(features))


def outer(gradient: Tensor, features: Tensor) -> Tensor:
    """The gradient (K, U, D) of the weights from that of their product, (K, U, B), as one matrix product."""
    n_heads, n_units, n_rows = gradient.shape
    return (gradient.reshape(-1, n_rows) @ features).view(n_heads, n_units, -1)


def to_logits(units: Tensor, bias: Tensor) -> Tensor:
    """Units (K, C, B) and a bias (K, C) to (K, B, C) float32."""
    return (units.transpose(1, 2) + bias[:, None]).contiguous()


def evaluation_logits(weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """What heads (K, ...) make of features (B, D) in evaluation mode: (K, B, C) float32."""
    if "hidden.weight" not in weights:
        return to_logits(product(weights["output.weight"], features), weights["output.bias"])
    units = product(weights["hidden.weight"], features).float()
    scale = weights["norm.weight"] * torch.rsqrt(weights["norm.running_var"] + EPS)
    shift = weights["norm.bias"] - weights["norm.running_mean"] * scale
    activations = units.mul_(scale[..., None]).add_(shift[..., None]).relu_()
    return to_logits(torch.bmm(weights["output.weight"], activations), weights["output.bias"])
