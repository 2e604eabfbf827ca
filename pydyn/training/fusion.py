"""A network's layers by the operations that do several of them in one pass."""

import torch
from torch import nn

from pydyn.ops import ConvReLU, ReLUMaxPool, copy_parameters
from pydyn.ops.extension import EXTENSION


class AppliedReLU(nn.Identity):
    """Stands where a ReLU was that an operation before has done."""


def fuse(network: nn.Sequential, device: torch.device) -> None:
    """Let one operation do several layers, in place: on CUDA convolution, ReLU and max-pooling, elsewhere the last two.

    The network computes the same: on a CPU to the last bit, on CUDA but for roundings of bfloat16 and the order of a sum. Its
    layers keep their numbers, so that weights have the same names.

    Args:
        network: of `pydyn.models.cnn`.
        device: where it will be.
    """
    if device.type == "cuda" and EXTENSION.cuda_version is not None:
        fuse_convolutions(network)
    for position in range(len(network) - 1):
        if isinstance(network[position], nn.ReLU) and _is_pool(network[position + 1]):
            network[position], network[position + 1] = nn.Identity(), ReLUMaxPool()


def fuse_convolutions(network: nn.Sequential) -> None:
    """Let one operation do each convolution with a ReLU after it, and the max-pooling after that."""
    for position in range(len(network) - 1):
        convolution = network[position]
        if not isinstance(network[position + 1], nn.ReLU):
            continue
        if not isinstance(convolution, nn.Conv2d) or not ConvReLU.can_stand_for(convolution):
            continue
        max_pool = position + 2 < len(network) and _is_pool(network[position + 2])
        network[position], network[position + 1] = ConvReLU(convolution, max_pool), AppliedReLU()
        if max_pool:
            # Units are watched where the ReLU's result is to be seen, as after a ReLUMaxPool.
            network[position + 1], network[position + 2] = nn.Identity(), AppliedReLU()
    network.register_forward_pre_hook(_copy_parameters)
    network.register_forward_hook(_forget_copies, always_call=True)


def _copy_parameters(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    kind = inputs[0].device.type
    if torch.is_autocast_enabled(kind):
        copy_parameters(_fused(network), torch.get_autocast_dtype(kind))


def _forget_copies(network: nn.Module, inputs: object, outputs: object) -> None:
    for layer in _fused(network):
        layer.copies = None


def _fused(network: nn.Module) -> list[ConvReLU]:
    return [layer for layer in network.modules() if isinstance(layer, ConvReLU)]


def _is_pool(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.MaxPool2d):
        return False
    options = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.return_indices, layer.ceil_mode)
    return options == (2, 2, 0, 1, False, False)
