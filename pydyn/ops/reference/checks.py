"""What all ops refuse alike."""

import torch
from torch import Tensor


def check_pool(op: str, name: str, pool: Tensor, index: Tensor) -> None:
    """Refuse an index that is no list of rows, and a pool whose rows do not lie one after another."""
    if index.dim() != 1:
        raise ValueError(f"{op}: index must have 1 dimension, got shape {list(index.shape)}")
    if index.dtype != torch.int64:
        raise TypeError(f"{op}: index must be int64, got {index.dtype}")
    if not pool.is_contiguous():
        raise ValueError(
            f"{op}: {name} must be contiguous, got shape {list(pool.shape)} with strides "
            f"{list(pool.stride())}; call {name}.contiguous() once, outside the loop"
        )
    check_device(op, name, pool, "index", index)


def check_range(op: str, index: Tensor, n_rows: int, pool: str) -> None:
    """Refuse rows that a pool, of which the message tells, does not have; elsewhere than on a CPU looking would cost a wait."""
    if index.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = (index < 0) | (index >= n_rows)
    if wrong.any():
        position = int(wrong.nonzero()[0])
        raise IndexError(
            f"{op}: index[{position}] = {int(index[position])} is out of range: {pool}, so allowed are 0 to {n_rows - 1}"
        )


def check_first_derivative(op: str) -> None:
    """Refuse, within a backward pass, to make a gradient that has one itself: it would be taken for a constant."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{op}: second derivatives (create_graph=True) are not supported; use plain torch operations"
        )


def check_device(op: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse tensors on two devices."""
    if tensor.device != other.device:
        raise ValueError(
            f"{op}: {name} is on {tensor.device} and {other_name} on {other.device}; put both on one device"
        )
