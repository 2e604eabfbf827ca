"""Batch normalisation moved to a new domain: running statistics follow the training images, weights stay.

Source: the paper of the study `frugal`, section 2; it gives neither threshold nor momentum: these are ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pydyn.models.settings import AdaptationSetting

Stopped = Literal["threshold", "cap", "no batch normalisation"]


@dataclass(frozen=True)
class Adaptation:
    """What was done."""

    changes: tuple[float, ...]
    """Relative change of the running means at each batch; infinite where all of them were 0, as in a network never trained."""
    stopped: Stopped


def adapt(
    network: nn.Module,
    batches: Iterable[Tensor],
    setting: AdaptationSetting,
    forward: Callable[[Tensor], Any] | None = None,
) -> Adaptation:
    """Let the statistics of a network's batch normalisation follow images of a new domain, in place.

    Only these layers are in training mode: dropout stays off. Weights do not change. A network without batch normalisation is
    left as it is.

    Args:
        network: in any mode; it is in evaluation mode afterwards.
        batches: of images, in the order in which they are seen; no more are drawn than are needed.
        setting: when to stop.
        forward: calls the network, as in another precision; None: calls it plainly.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    network.eval()
    if not layers:
        return Adaptation((), "no batch normalisation")
    momenta = [layer.momentum for layer in layers]
    changes: list[float] = []
    stopped: Stopped = "cap"
    try:
        for layer in layers:
            layer.train()
        before = _means(layers)
        with torch.no_grad():
            for number, images in zip(range(1, setting.max_batches + 1), batches, strict=False):
                for layer in layers:
                    layer.momentum = setting.weight(number)
                (forward or network)(images)
                after = _means(layers)
                changes.append(float((after - before).norm() / before.norm()))
                before = after
                if changes[-1] < setting.threshold:
                    stopped = "threshold"
                    break
    finally:
        network.eval()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return Adaptation(tuple(changes), stopped)


def statistics(network: nn.Module) -> dict[str, Tensor]:
    """Running means and variances by name, as the network's state dict has them."""
    layers = {name for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    return {
        name: value.detach().clone()
        for name, value in network.state_dict().items()
        if name.rpartition(".")[0] in layers and name.rpartition(".")[2] in ("running_mean", "running_var")
    }


def _means(layers: list[_BatchNorm]) -> Tensor:
    return torch.cat([layer.running_mean.flatten() for layer in layers if layer.running_mean is not None]).double()
