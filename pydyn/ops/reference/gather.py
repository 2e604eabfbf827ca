"""Gather of rows in plain torch."""

import torch
from torch import Tensor

from pydyn.ops.reference.checks import check_device, check_pool, check_range

_CASTABLE = (torch.float16, torch.bfloat16, torch.float32)


def gather_rows(
    matrix: Tensor, index: Tensor, labels: Tensor | None = None, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Gather rows: `out[i] = matrix[index[i]]`. Shapes, dtypes and errors are those of `pydyn.ops.gather_rows`.

    Returns the rows and their labels, which are empty where there are none to gather.
    """
    if matrix.dim() < 1:
        raise ValueError("gather_rows: matrix must have at least 1 dimension (rows first), got a scalar")
    check_pool("gather_rows", "matrix", matrix, index)
    if matrix.shape[0] == 0 and index.shape[0] > 0:
        raise IndexError(f"gather_rows: index has {index.shape[0]} elements, but matrix has no rows")
    check_range("gather_rows", index, len(matrix), f"matrix has {len(matrix)} rows")
    if dtype not in (None, matrix.dtype) and not (matrix.dtype in _CASTABLE and dtype in _CASTABLE):
        raise TypeError(
            "gather_rows: only float16, bfloat16 and float32 are cast into each other, got matrix of "
            f"{matrix.dtype} and dtype = {dtype}"
        )
    rows = torch.index_select(matrix, 0, index).to(dtype or matrix.dtype)
    if labels is None:
        return rows, index.new_empty(0)
    if labels.dtype != torch.int64:
        raise TypeError(f"gather_rows: labels must be int64, got {labels.dtype}")
    if labels.shape != matrix.shape[:1] or not labels.is_contiguous():
        raise ValueError(
            f"gather_rows: labels must be contiguous of shape [{matrix.shape[0]}], got {list(labels.shape)}"
        )
    check_device("gather_rows", "matrix", matrix, "labels", labels)
    return rows, torch.index_select(labels, 0, index)
