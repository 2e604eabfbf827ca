"""Random generators keyed by a seed and a purpose. Nothing in pydyn draws from, or seeds, a global generator."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Mix a seed and a purpose into 63 bits.

    The same arguments give the same value on every machine; draws for two purposes are independent of each other, so that a
    new purpose changes no old draw.
    """
    key = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh torch CPU generator for one purpose. Draws are made on the CPU so that every device sees the same ones."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextlib.contextmanager
def own_draws(device: torch.device, seed: int, *purpose: str | int) -> Iterator[None]:
    """Let layers that know no other generator than the global one, as dropout, draw for one purpose; it is put back after."""
    import torch

    key = derive_seed(seed, *purpose)
    devices: list[Any] = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(key)
        if device.type == "cuda":
            torch.cuda.manual_seed(key)
        yield
