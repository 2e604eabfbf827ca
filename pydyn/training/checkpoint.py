"""A Run's state between two epochs, so that a killed Run goes on where it was."""

import contextlib
import textwrap
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pydyn.errors import RunError
from pydyn.files import whole_or_absent


class StateError(RunError):
    """A state was saved of something else than what it is loaded into."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dictionaries and lists of tensors, arrays, numbers and strings, whole or not at all."""
    # By way of memory: on a full disk torch's own writer dies without saying why.
    buffer = BytesIO()
    torch.save(arrays_to_tensors(state), buffer)
    with whole_or_absent(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, arrays as tensors; None if there is none.

    Raises RunError for one that is damaged, OSError where the disk does not give it: that says nothing of what is on it.
    """
    if not path.exists():
        return None
    try:
        content = BytesIO(path.read_bytes())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        # torch's reader looks at no checksum: with a flipped bit it gives another number.
        with zipfile.ZipFile(content) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(damaged)
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # both readers raise almost anything on a damaged file
        raise RunError(f"{path}: unreadable checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise RunError(f"{path}: unreadable checkpoint (it holds a {type(state).__name__})")
    return state


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Within this a saved state is taken apart: what it lacks or has in another shape is a StateError."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # the device's fault, not the state's
    except (RunError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        told = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise StateError(f"the saved state does not fit ({told})") from error


def tensors_to_arrays(state: Any) -> Any:
    """Undo what `save_checkpoint` did to arrays, for a part of a state that held arrays."""
    if isinstance(state, torch.Tensor):
        return state.numpy(force=True)  # also of a GPU, where torch.load(map_location="cuda") puts all of a file
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
