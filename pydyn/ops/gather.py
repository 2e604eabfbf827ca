"""Gather of rows: a batch out of a pool that stays where it is."""

from typing import Any

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, warn_reference


def gather_rows(matrix: Tensor, index: Tensor) -> Tensor:
    """Gather rows of a pool into a batch: `out[i] = matrix[index[i]]`.

    Runs on all CPU threads that torch may use, or on the current CUDA stream. Differentiable in a floating `matrix`, where
    the gradients of a row gathered several times add up; torch.compile takes it in without a graph break.

    Parameters
    ----------
    matrix : Tensor of shape (N, ...), any dtype
        The pool: images, labels, features. It must be contiguous: copying it at each call would cost more than the op.
    index : int64 Tensor of shape (B,), on the same device
        Rows to gather, each in [0, N); any stride, repeats allowed. Negative ones do not count from the end.

    Returns
    -------
    Tensor of shape (B, ...)
        Contiguous, with matrix's dtype and device.

    Raises
    ------
    ValueError
        If `matrix` is a scalar or not contiguous, `index` has not 1 dimension, or they are on two devices.
    TypeError
        If `index` is not int64.
    IndexError
        If an index is out of range; the message names the first such position, the index and the range. On CUDA this
        would cost a synchronisation: as in torch's own indexing, a device-side assert fails there instead, which the next
        synchronising call reports and no later CUDA call of the process survives.
    """
    if EXTENSION.loaded:
        batch: Tensor = torch.ops.pydyn.gather_rows.default(matrix, index)
        return batch
    warn_reference()
    return reference.gather_rows(matrix, index)


def _fake(matrix: Tensor, index: Tensor) -> Tensor:
    return matrix.new_empty((index.shape[0], *matrix.shape[1:]))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    matrix, index = inputs
    ctx.save_for_backward(index)
    ctx.matrix_shape = matrix.shape


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (index,) = ctx.saved_tensors
    return gradient.new_zeros(ctx.matrix_shape).index_add(0, index, gradient), None


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::gather_rows", _fake)
    torch.library.register_autograd("pydyn::gather_rows", _backward, setup_context=_setup_context)
    # Devices for which no kernel was compiled: CUDA in a build without it, and any other that torch knows.
    torch.library.impl("pydyn::gather_rows", "default", reference.gather_rows)
