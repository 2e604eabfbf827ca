"""What comes between the two layers of a head: batch normalisation, ReLU and dropout, for a population in one pass."""

from typing import Any

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, has_tangent, warn_reference
from pydyn.ops.reference.checks import check_first_derivative


def batch_norm_relu_dropout(
    units: Tensor, weight: Tensor, bias: Tensor, uniforms: Tensor | None = None, rates: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each unit of K models over the batch, then ReLU, then dropout with a rate for each model.

    The batch is the last dimension. As `torch.nn.BatchNorm1d` in training (eps 1e-5), `ReLU` and `Dropout`, but that the draws
    of dropout are handed in, and shared by all models: a model is treated the same in any population. Differentiable once in
    units, weight and bias (`create_graph=True` is refused, and `pydyn.ops.reference.batch_norm_relu_dropout` takes it);
    torch.compile takes it in without a graph break.

    One pass on a CPU, on all threads that torch may use; other devices, and installations without the extension, run plain torch
    operations.

    Parameters
    ----------
    units : bfloat16, float16, float32 or float64 Tensor of shape (K, H, B)
        What the first layer gives; B, the batch, at least 2. Computed in float32, float64 in float64.
    weight, bias : float32 Tensors of shape (K, H), float64 for float64 units, on the same device
        Of the normalisation.
    uniforms : Tensor of shape (H, B), weight's dtype, in [0, 1), on the same device, optional
        A unit of model k is dropped where its draw is below rates[k]; kept, it is divided by 1 - rates[k].
    rates : Tensor of shape (K,), weight's dtype, in [0, 1), on the same device, optional
        Rates of dropout; with `uniforms` or not at all. Values are not checked.

    Returns
    -------
    activations : Tensor of shape (K, H, B), weight's dtype
    mean, variance : Tensors of shape (K, H), weight's dtype
        Of the units over the batch, the variance divided by B; for running statistics. Not differentiable.

    Raises
    ------
    ValueError
        If a shape or a device is wrong, or only one of `uniforms` and `rates` is given; the message names the argument.
    TypeError
        If a dtype is wrong.
    """
    if EXTENSION.loaded and units.device.type == "cpu" and not has_tangent(units, weight, bias):
        activations, mean, variance = torch.ops.pydyn.batch_norm_relu_dropout.default(
            units, weight, bias, uniforms, rates
        )
        return activations, mean, variance
    if not EXTENSION.loaded:
        warn_reference()
    return reference.batch_norm_relu_dropout(units, weight, bias, uniforms, rates)


def batch_norm_relu_dropout_backward(
    gradient: Tensor,
    units: Tensor,
    activations: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    rates: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The backward pass of `batch_norm_relu_dropout` for loops that go without autograd.

    Parameters
    ----------
    gradient : Tensor of shape (K, H, B), weight's dtype
        Of the activations.
    units, activations, weight, mean, variance, rates
        As they went in and came out.

    Returns
    -------
    Tensor of shape (K, H, B), units' dtype, and two of shape (K, H), weight's dtype
        Gradients of units, weight and bias.

    Raises
    ------
    ValueError, TypeError
        If a shape, a device or a dtype is wrong; the message names the argument. On a CPU only.
    """
    arguments = (gradient, units, activations, weight, mean, variance, rates)
    if EXTENSION.loaded and units.device.type == "cpu":
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.pydyn.batch_norm_relu_dropout_backward.default(*arguments)
        return gradients
    if not EXTENSION.loaded:
        warn_reference()
    return reference.batch_norm_relu_dropout_backward(*arguments)


def _fake(
    units: Tensor, weight: Tensor, bias: Tensor, uniforms: Tensor | None, rates: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        units.new_empty(units.shape, dtype=weight.dtype),
        weight.new_empty(weight.shape),
        weight.new_empty(weight.shape),
    )


def _fake_backward(
    gradient: Tensor,
    units: Tensor,
    activations: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    rates: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return units.new_empty(units.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    units, weight, _, _, rates = inputs
    activations, mean, variance = output
    ctx.save_for_backward(units, activations, weight, mean, variance, rates)
    ctx.mark_non_differentiable(mean, variance)


def _backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    check_first_derivative("batch_norm_relu_dropout")
    return *batch_norm_relu_dropout_backward(gradient, *ctx.saved_tensors), None, None


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::batch_norm_relu_dropout", _fake)
    torch.library.register_fake("pydyn::batch_norm_relu_dropout_backward", _fake_backward)
    torch.library.register_autograd("pydyn::batch_norm_relu_dropout", _backward, setup_context=_setup_context)
    torch.library.impl("pydyn::batch_norm_relu_dropout", "default", reference.batch_norm_relu_dropout)
    torch.library.impl("pydyn::batch_norm_relu_dropout_backward", "default", reference.batch_norm_relu_dropout_backward)
