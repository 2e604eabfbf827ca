"""Adam over slices against torch's own, on a GPU: the same bits, with few launches and with several side by side."""

import pytest
import torch

from pydyn.training.adam import PER_LAUNCH, SLICE, SlicedAdam
from pydyn.training.step import capture
from tests.training.test_adam import parameters, step


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("on_default_stream", [True, False])
def test_steps_are_torchs_to_the_last_bit(many, on_default_stream):
    ours, theirs = parameters("cuda"), parameters("cuda")
    if many:
        large = torch.randn(3 * PER_LAUNCH * SLICE + 1, device="cuda")
        ours, theirs = ([*some, torch.nn.Parameter(large.clone())] for some in (ours, theirs))
    stream = torch.cuda.current_stream() if on_default_stream else torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(SlicedAdam(ours, 1e-2, 1e-7), 4)
    torch.cuda.synchronize()
    step(torch.optim.Adam(theirs, 1e-2, eps=1e-7, fused=True), 4)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_gradient_may_be_of_another_layout():
    ours, theirs = parameters("cuda"), parameters("cuda")
    step(SlicedAdam(ours, 1e-2, 1e-7), 2, same_layout=False)
    step(torch.optim.Adam(theirs, 1e-2, eps=1e-7, fused=True), 2)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_captured_step_is_an_eager_one():
    captured, eager = parameters("cuda"), parameters("cuda")
    optimisers = SlicedAdam(captured, 1e-2, 1e-7), SlicedAdam(eager, 1e-2, 1e-7)
    for optimiser in optimisers:
        step(optimiser, 1)  # makes its state, and gradients at their places
    before = [parameter.detach().clone() for parameter in captured]
    states = [{name: value.clone() for name, value in state.items()} for state in optimisers[0].state.values()]
    _, replay = capture(optimisers[0].step)
    with torch.no_grad():  # a capture takes steps to warm up
        for parameter, value in zip(captured, before, strict=True):
            parameter.copy_(value)
        for state, kept in zip(optimisers[0].state.values(), states, strict=True):
            for name, value in kept.items():
                state[name].copy_(value)
    for _ in range(3):
        replay()
        optimisers[1].step()
    assert all(torch.equal(one, other) for one, other in zip(captured, eager, strict=True))
