"""Batch normalisation, ReLU and dropout of a population in plain torch."""

import torch
from torch import Tensor

from pydyn.ops.reference.checks import check_device

EPS = 1e-5

_OP = "batch_norm_relu_dropout"


def batch_norm_relu_dropout(
    units: Tensor, weight: Tensor, bias: Tensor, uniforms: Tensor | None = None, rates: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Between two layers. Arguments, results and errors are those of `pydyn.ops.batch_norm_relu_dropout`.

    Differentiable in units, weight and bias as often as wanted.
    """
    _check(units, weight, bias, uniforms, rates)
    numbers = units.to(weight.dtype)
    variance, mean = torch.var_mean(numbers, -1, correction=0)
    normalised = (numbers - mean[..., None]) * torch.rsqrt(variance + EPS)[..., None]
    activations = torch.relu(normalised * weight[..., None] + bias[..., None])
    if uniforms is not None and rates is not None:
        activations = torch.where(uniforms >= rates[:, None, None], activations / (1 - rates)[:, None, None], 0)
    return activations, mean.detach(), variance.detach()


def batch_norm_relu_dropout_backward(
    gradient: Tensor,
    units: Tensor,
    activations: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    rates: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of units, weight and bias: see `csrc/hidden.h`."""
    upstream = torch.where(activations <= 0, 0, gradient)
    if rates is not None:
        upstream = upstream / (1 - rates)[:, None, None]
    inverse = torch.rsqrt(variance + EPS)[..., None]
    normalised = (units.to(weight.dtype) - mean[..., None]) * inverse
    sums, products = upstream.sum(-1), (upstream * normalised).sum(-1)
    n_rows = units.shape[-1]
    centred = upstream - sums[..., None] / n_rows - normalised * products[..., None] / n_rows
    return (weight[..., None] * inverse * centred).to(units.dtype), products, sums


def _check(units: Tensor, weight: Tensor, bias: Tensor, uniforms: Tensor | None, rates: Tensor | None) -> None:
    if units.dtype not in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        raise TypeError(f"{_OP}: units must be bfloat16, float16, float32 or float64, got {units.dtype}")
    if units.dim() != 3 or units.shape[2] < 2:
        raise ValueError(
            f"{_OP}: units must have shape (K, H, B) with B at least 2, for a variance, got {list(units.shape)}"
        )
    if (uniforms is None) != (rates is None):
        raise ValueError(f"{_OP}: uniforms and rates go together, only one of them was given")
    computing = torch.float64 if units.dtype == torch.float64 else torch.float32
    n_models, n_units, n_rows = units.shape
    for name, tensor, shape in (
        ("weight", weight, (n_models, n_units)),
        ("bias", bias, (n_models, n_units)),
        ("uniforms", uniforms, (n_units, n_rows)),
        ("rates", rates, (n_models,)),
    ):
        if tensor is None:
            continue
        if tensor.dtype != computing:
            raise TypeError(f"{_OP}: {name} must be {computing} for units of {units.dtype}, got {tensor.dtype}")
        if tensor.shape != shape:
            raise ValueError(
                f"{_OP}: {name} must have shape {list(shape)} for units of shape {list(units.shape)}, got "
                f"{list(tensor.shape)}"
            )
        check_device(_OP, "units", units, name, tensor)
