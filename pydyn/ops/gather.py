"""Gather of rows: a batch out of a pool that stays where it is."""

from typing import Any, overload

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION, has_tangent, warn_reference


@overload
def gather_rows(matrix: Tensor, index: Tensor, labels: None = None, *, dtype: torch.dtype | None = None) -> Tensor: ...
@overload
def gather_rows(
    matrix: Tensor, index: Tensor, labels: Tensor, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]: ...
def gather_rows(
    matrix: Tensor, index: Tensor, labels: Tensor | None = None, *, dtype: torch.dtype | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Gather rows of a pool, and their labels, into a batch: `out[i] = matrix[index[i]]`.

    Runs on all CPU threads that torch may use, or on the current CUDA stream. Differentiable in a floating `matrix`, where
    the gradients of a row gathered several times add up; torch.compile takes it in without a graph break.

    Parameters
    ----------
    matrix : Tensor of shape (N, ...), any dtype
        The pool: images, labels, features. It must be contiguous: copying it at each call would cost more than the op.
    index : int64 Tensor of shape (B,), on the same device
        Rows to gather, each in [0, N); any stride, repeats allowed. Negative ones do not count from the end.
    labels : int64 Tensor of shape (N,), contiguous, on the same device, optional
        Gathered alongside.
    dtype : torch.dtype, optional
        Of the batch. float16, bfloat16 and float32 are cast into each other while they are gathered, to the nearest, ties
        to even; None, or matrix's own, casts nothing.

    Returns
    -------
    Tensor of shape (B, ...), or with `labels` a pair of it and an int64 Tensor of shape (B,)
        Contiguous, on matrix's device.

    Raises
    ------
    ValueError
        If `matrix` is a scalar or not contiguous, `index` has not 1 dimension, `labels` not as many elements as `matrix`
        has rows, or they are on two devices.
    TypeError
        If `index` or `labels` is not int64, or a cast is asked for between other dtypes.
    IndexError
        If an index is out of range; the message names the first such position, the index and the range. On CUDA this
        would cost a synchronisation: as in torch's own indexing, a device-side assert fails there instead, which the next
        synchronising call reports and no later CUDA call of the process survives.
    """
    if not EXTENSION.loaded:
        warn_reference()
    if EXTENSION.loaded and not has_tangent(matrix):
        rows, row_labels = torch.ops.pydyn.gather_rows.default(matrix, index, labels, dtype)
    else:
        rows, row_labels = reference.gather_rows(matrix, index, labels, dtype)
    return rows if labels is None else (rows, row_labels)


def _fake(matrix: Tensor, index: Tensor, labels: Tensor | None, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    rows = matrix.new_empty((index.shape[0], *matrix.shape[1:]), dtype=dtype)
    return rows, index.new_empty(0 if labels is None else index.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    matrix, index, _, _ = inputs
    ctx.save_for_backward(index)
    ctx.matrix_shape, ctx.matrix_dtype = matrix.shape, matrix.dtype
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
    (index,) = ctx.saved_tensors
    gradient = gradient.to(ctx.matrix_dtype)
    return gradient.new_zeros(ctx.matrix_shape).index_add(0, index, gradient), None, None, None


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::gather_rows", _fake)
    torch.library.register_autograd("pydyn::gather_rows", _backward, setup_context=_setup_context)
    # Devices for which no kernel was compiled: CUDA in a build without it, and any other that torch knows.
    torch.library.impl("pydyn::gather_rows", "default", reference.gather_rows)
