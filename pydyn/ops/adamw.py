"""AdamW for a population: every model with a rate and a decay of its own, in one pass."""

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, warn_reference


def adamw_(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    *,
    rates: Tensor,
    decays: Tensor,
    step: int,
    copy: Tensor | None = None,
) -> None:
    """Step K models by AdamW, in place: what K optimisers `torch.optim.AdamW` would do, each with its own rate and decay.

    AdamW is of Loshchilov and Hutter 2019 (algorithm 2); betas are 0.9 and 0.999 and eps is 1e-8, torch's defaults. The numbers
    of models do not meet, so that a model steps the same in any population. Not differentiable.

    One pass on a CPU, on all threads that torch may use; other devices, and installations without the extension, run plain torch
    operations.

    Parameters
    ----------
    weights : float32 Tensor of shape (K, ...), contiguous
        Parameters of K models; changed.
    gradient : float32, bfloat16 or float16 Tensor of weights' shape, on the same device
        Of model k's loss, at its own place.
    mean, square : float32 Tensors of weights' shape, contiguous, on the same device
        Running means of the gradient and of its square, zero before the first step; changed.
    rates : float32 Tensor of shape (K,), on the same device
        Learning rates, above 0.
    decays : float32 Tensor of shape (K,), on the same device
        Decoupled weight decays, at least 0: a step takes rates * decays of the weights away.
    step : int, at least 1
        The number of this step, from 1.
    copy : bfloat16 or float16 Tensor of weights' shape, contiguous, on the same device, optional
        Gets the new weights, rounded to the nearest: what matrix products in half precision read.

    Raises
    ------
    ValueError
        If a shape, a layout, a device or `step` is wrong; the message names the argument.
    TypeError
        If a dtype is wrong.
    """
    if EXTENSION.loaded and weights.device.type == "cpu":
        torch.ops.pydyn.adamw_.default(weights, gradient, mean, square, rates, decays, step, copy)
        return
    if not EXTENSION.loaded:
        warn_reference()
    reference.adamw_(weights, gradient, mean, square, rates, decays, step, copy)


def _fake(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    decays: Tensor,
    step: int,
    copy: Tensor | None,
) -> None:
    """Nothing but what is in place."""


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::adamw_", _fake)
    torch.library.impl("pydyn::adamw_", "default", reference.adamw_)
