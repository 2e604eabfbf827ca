"""A sampler's state in a checkpoint that was loaded to a GPU, as plain loops load theirs."""

from io import BytesIO

import torch

from pydyn.selection.dynamic import Dynamic
from pydyn.training.sampler import DynamicSubsetSampler


def sampler_of(seed: int) -> DynamicSubsetSampler:
    return DynamicSubsetSampler(Dynamic(alpha=0.5, delta=1.0), 60, epochs=5, seed=seed)


def test_a_state_loaded_to_a_gpu_goes_on_as_any() -> None:
    begun, restored = sampler_of(0), sampler_of(1)
    begun.update(0.5)
    file = BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, map_location="cuda", weights_only=True))
    for sampler in (begun, restored):
        sampler.update(0.5)
    assert list(restored) == list(begun)
