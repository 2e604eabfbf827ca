"""A Run's state between two epochs, so that a killed Run goes on where it was."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pydyn.files import whole_or_absent


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dictionaries and lists of tensors, arrays, numbers and strings, whole or not at all."""
    # By way of memory: on a full disk torch's own writer dies without saying why.
    buffer = BytesIO()
    torch.save(arrays_to_tensors(state), buffer)
    with whole_or_absent(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, arrays as tensors; None if there is none that can be read (the Run then starts afresh)."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises almost anything on a damaged file
        print(f"{path}: unreadable checkpoint ({type(error).__name__}); the Run starts afresh", flush=True)
        return None
    return state if isinstance(state, dict) else None


def tensors_to_arrays(state: Any) -> Any:
    """Undo what `save_checkpoint` did to arrays, for a part of a state that held arrays."""
    if isinstance(state, torch.Tensor):
        return state.numpy()
    if isinstance(state, dict):
        return {key: tensors_to_arrays(value) for key, value in state.items()}
    return state


def arrays_to_tensors(state: Any) -> Any:
    """Arrays of a nested state as tensors, which share their memory."""
    # weights_only loading takes tensors, but not NumPy's arrays.
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state)
    if isinstance(state, dict):
        return {key: arrays_to_tensors(value) for key, value in state.items()}
    return state
