"""Random generators keyed by a seed and a purpose. Nothing in pydyn draws from, or seeds, a global generator."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

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
