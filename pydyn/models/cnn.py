"""The studies' convolutional networks, as data: a name stands for a list of layers."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Conv:
    """3x3 convolution (padding 1) and ReLU."""

    filters: int | None
    """None: as many as there are channels already."""
    stride: int = 1


@dataclass(frozen=True)
class Pool:
    """2x2 max-pooling."""


@dataclass(frozen=True)
class GlobalAverage:
    """Mean over what is left of the image, flattened."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer and ReLU. The last layer, to the classes, is added by `build`."""

    units: int


Layer = Conv | Pool | GlobalAverage | Dense

CNN: dict[str, list[Layer]] = {
    # Paper a, table 1. The table prints 4x4 for the first convolution to 128 and 2x2 after the next pool: stride 2 is the
    # reading that fits every printed size.
    "cnn_a": [
        *[Conv(32)] * 3,
        Pool(),
        *[Conv(64)] * 4,
        Pool(),
        Conv(128, stride=2),
        *[Conv(128)] * 3,
        Pool(),
        *[Conv(128)] * 3,
        GlobalAverage(),
    ],
    # Paper b, table 1, which is garbled: this is our reading of its rows (quantity, channels in and out).
    "cnn_b": [
        Conv(None),
        *[Conv(32)] * 3,
        Pool(),
        *[Conv(32)] * 2,
        *[Conv(64)] * 3,
        Pool(),
        *[Conv(144)] * 5,
        Pool(),
        *[Conv(144)] * 3,
        GlobalAverage(),
        Dense(144),
    ],
}


def build(
    name: str, in_channels: int, n_classes: int, generator: torch.Generator, *, batch_norm: bool = False
) -> nn.Sequential:
    """Build and initialise a network.

    Args:
        name: a key of `CNN`.
        in_channels: channels of the images, at least 1.
        n_classes: units of the last layer, at least 2.
        generator: a CPU generator; the only source of randomness (no global generator is drawn from).
        batch_norm: put batch normalisation between each convolution and its ReLU. The papers mention none.

    Returns:
        A float32 network on the CPU from images (B, in_channels, H, W) to logits (B, n_classes);
        see `check_image_size` for the smallest.

    Raises:
        ValueError: unknown name.
    """
    if name not in CNN:
        raise ValueError(f"model {name!r} is unknown, allowed are {', '.join(CNN)}")
    # Built without storage first: torch's constructors would initialise from the global generator.
    with torch.device("meta"):
        network = nn.Sequential(*_modules(CNN[name], in_channels, n_classes, batch_norm))
    network.to_empty(device="cpu")
    _initialise(network, generator)
    return network


def _modules(layers: list[Layer], channels: int, n_classes: int, batch_norm: bool) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for layer in layers:
        match layer:
            case Conv(filters, stride):
                filters = filters or channels
                modules.append(nn.Conv2d(channels, filters, 3, stride, padding=1, bias=not batch_norm))
                if batch_norm:
                    modules.append(nn.BatchNorm2d(filters))
                modules.append(nn.ReLU(inplace=True))
                channels = filters
            case Pool():
                modules.append(nn.MaxPool2d(2))
            case GlobalAverage():
                modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            case Dense(units):
                modules += [nn.Linear(channels, units), nn.ReLU(inplace=True)]
                channels = units
    return [*modules, nn.Linear(channels, n_classes)]


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He initialisation (He et al. 2015, Eq. 10), which keeps a plain network of 14 ReLU layers alive; biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def check_image_size(name: str, height: int, width: int) -> None:
    """Raise ValueError if images are so small that a network's poolings would leave nothing of them."""
    left = min(height, width)
    for layer in CNN[name]:
        if isinstance(layer, Pool):
            left //= 2
        elif isinstance(layer, Conv):
            left = -(-left // layer.stride)
        if left == 0:
            raise ValueError(f"images of {height}x{width} are too small for {name}: pooling leaves nothing of them")


def count_parameters(network: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
