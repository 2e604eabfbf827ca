"""The weights of a Run in a file that tells whether they are those that were written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pydyn.errors import RunError
from pydyn.files import whole_or_absent
from pydyn.models.backbones import state_digest

WEIGHTS = "weights.safetensors"


def save_weights(directory: Path, weights: Mapping[str, Tensor], **origin: Any) -> None:
    """Write a Run's weights; `origin` says what they are of."""
    with whole_or_absent(directory / WEIGHTS) as temporary:
        # One key: safetensors writes several in an order that changes from process to process.
        described = json.dumps({**origin, "digest": state_digest(weights)})
        save_file(dict(weights), temporary, metadata={"pydyn": described})


def load_weights(directory: Path) -> dict[str, Tensor]:
    """Read a Run's weights. Raises RunError if the file is gone or damaged, or if a bit is not as it was written."""
    path = directory / WEIGHTS
    again = "remove the Run's folder and run the workflow again"
    try:
        with safe_open(path, "pt") as file:
            origin = json.loads((file.metadata() or {}).get("pydyn", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has an exception of its own for each fault
        raise RunError(f"{path} cannot be read ({error}); {again}") from None
    # Files of earlier versions have none.
    if origin.get("digest", (found := state_digest(weights))) != found:
        raise RunError(f"{path} is damaged: it differs from its digest; {again}")
    return weights
