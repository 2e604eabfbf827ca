"""Adam over slices against torch's own, on a GPU: the same bits, with few launches and with several side by side."""

import pytest
import torch

from pydyn.training.adam import PER_LAUNCH, SLICE, SlicedAdam
from tests.training.test_adam import parameters, step


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("on_default_stream", [True, False])
def test_steps_are_torchs_to_the_last_bit(many, on_default_stream):
    ours, theirs = parameters("cuda"), parameters("cuda")
    if many:
        large = torch.randn(3 * PER_LAUNCH * SLICE + 1, device="cuda")
        ours, theirs = ([*some, torch.nn.Parameter(large.clone())] for some in (ours, theirs))
    stream = torch.cuda.current_stream() if on_default_stream else torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step(SlicedAdam(ours, 1e-2, 1e-7), 4)
    torch.cuda.synchronize()
    step(torch.optim.Adam(theirs, 1e-2, eps=1e-7, fused=True), 4)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
