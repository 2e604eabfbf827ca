"""Adam over slices against torch's own."""

import pytest
import torch
from torch import nn

from pydyn.training.adam import SLICE, SlicedAdam

SHAPES = [(3,), (SLICE,), (SLICE + 5,), (64, 64, 3, 3), (128, 3, 3, 3)]


def parameters(device="cpu"):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).to(device) for shape in SHAPES]
    return [nn.Parameter(value.to(memory_format=torch.channels_last) if value.dim() == 4 else value) for value in made]


def step(optimiser, count, same_layout=True):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for parameter in optimiser.param_groups[0]["params"]:
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.grad = torch.empty_like(parameter).copy_(gradient) if same_layout else gradient
        optimiser.step()


def test_steps_are_torchs():
    ours, theirs = parameters(), parameters()
    step(SlicedAdam(ours, 1e-2, 1e-7), 4)
    step(torch.optim.Adam(theirs, 1e-2, eps=1e-7, fused=True), 4)
    for one, other in zip(ours, theirs, strict=True):
        # On a CPU vectors and their remainders round differently, and slices end elsewhere.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_gradient_may_be_of_another_layout():
    ours, others = parameters(), parameters()
    step(SlicedAdam(ours, 1e-2, 1e-7), 2, same_layout=False)
    step(SlicedAdam(others, 1e-2, 1e-7), 2)
    assert all(torch.equal(one, other) for one, other in zip(ours, others, strict=True))


def test_state_is_torchs_own():
    ours = SlicedAdam(parameters(), 1e-2, 1e-7)
    step(ours, 2)
    theirs = torch.optim.Adam(parameters(), 1e-2, eps=1e-7, fused=True, capturable=True)
    step(theirs, 1)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    assert all(state["step"].item() == 2 for state in theirs.state.values())


def test_a_parameter_without_gradient_stays():
    trained, left = parameters()[:2]
    before = left.detach().clone()
    optimiser = SlicedAdam([trained, left], 1e-2, 1e-7)
    trained.grad = torch.ones_like(trained)
    optimiser.step()
    assert torch.equal(left, before)


def test_moments_of_another_layout_are_refused():
    optimiser = SlicedAdam(parameters(), 1e-2, 1e-7)
    step(optimiser, 1)
    for state in optimiser.state.values():
        state["exp_avg"] = state["exp_avg"].contiguous()
    with pytest.raises(ValueError, match="another order"):
        step(optimiser, 1)
