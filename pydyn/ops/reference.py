"""The ops in plain torch: what the extension must equal, and what runs where it offers no kernel."""

import torch
from torch import Tensor


def gather_rows(matrix: Tensor, index: Tensor) -> Tensor:
    """Gather rows: `out[i] = matrix[index[i]]`. Shapes, dtypes and errors are those of `pydyn.ops.gather_rows`."""
    if matrix.dim() < 1:
        raise ValueError("gather_rows: matrix must have at least 1 dimension (rows first), got a scalar")
    if index.dim() != 1:
        raise ValueError(f"gather_rows: index must have 1 dimension, got shape {list(index.shape)}")
    if index.dtype != torch.int64:
        raise TypeError(f"gather_rows: index must be int64, got {index.dtype}")
    if not matrix.is_contiguous():
        raise ValueError(
            f"gather_rows: matrix must be contiguous, got shape {list(matrix.shape)} with strides "
            f"{list(matrix.stride())}; call matrix.contiguous() once, outside the loop"
        )
    if matrix.device != index.device:
        raise ValueError(
            f"gather_rows: matrix is on {matrix.device} and index on {index.device}; put both on one device"
        )
    if matrix.shape[0] == 0 and index.shape[0] > 0:
        raise IndexError(f"gather_rows: index has {index.shape[0]} elements, but matrix has no rows")
    return torch.index_select(matrix, 0, index)
