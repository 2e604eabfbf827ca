"""Logits, labels, and our loss of them with all its terms."""

import pytest
import torch

from pydyn.ops import ambiguity_cross_entropy
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")


def make_logits(*shape, scale=3.0, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def make_labels(*shape, n_classes, seed=0):
    return torch.randint(0, n_classes, shape, generator=torch.Generator().manual_seed(seed))


def ours(logits, target, **options):
    return ambiguity_cross_entropy(logits, target, terms=True, **options)
