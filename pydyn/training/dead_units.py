"""Units that a network has and does not use: their ReLU lets nothing through. They learn nothing themselves, though what is below
them may still change so that they come back: of 53 of 128, one epoch later 5 had."""

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from pydyn.ops import ReLUMaxPool
from pydyn.training.fusion import AppliedReLU
from pydyn.training.summary import DeadUnits


@contextlib.contextmanager
def watch_units(network: nn.Sequential) -> Iterator[dict[int, Tensor]]:
    """Within this context, the highest activation so far of each unit: (units,), by the position of its ReLU."""
    highest: dict[int, Tensor] = {}

    def see(position: int, layer: nn.Module, inputs: tuple[Tensor, ...], activations: Tensor) -> None:
        found = activations.detach().float().amax(dim=[0, *range(2, activations.dim())])
        highest[position] = torch.maximum(highest[position], found) if position in highest else found

    hooks = [
        layer.register_forward_hook(partial(see, position))
        for position, layer in enumerate(network)
        if isinstance(layer, nn.ReLU | ReLUMaxPool | AppliedReLU)
    ]
    try:
        yield highest
    finally:
        for hook in hooks:
            hook.remove()


def dead_units(highest: dict[int, Tensor]) -> list[DeadUnits]:
    """Count what never rose above 0. A unit that is NaN is not dead, but worse."""
    return [
        DeadUnits(position, len(values), int((values <= 0).sum().item()))
        for position, values in sorted(highest.items())
    ]
