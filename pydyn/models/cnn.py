"""The studies' convolutional networks, as data: a name stands for a list of layers."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Conv:
    """3x3 convolution and ReLU."""

    filters: int | None
    """None: as many as there are channels already."""
    stride: int = 1
    padding: Literal["same", "valid"] = "same"
    """`same`: one pixel of zeros around; `valid`: none, so that the image loses two."""


@dataclass(frozen=True)
class Pool:
    """2x2 max-pooling."""


@dataclass(frozen=True)
class GlobalAverage:
    """Mean over what is left of the image, flattened."""


@dataclass(frozen=True)
class Flatten:
    """What is left of the image, as one vector."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer and ReLU. The last layer, to the classes, is added by `build`."""

    units: int


@dataclass(frozen=True)
class Dropout:
    """Drops a share of its inputs while it is trained."""

    rate: float


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation as a layer of its own, after a ReLU."""


Layer = Conv | Pool | GlobalAverage | Flatten | Dense | Dropout | BatchNorm


@dataclass(frozen=True)
class Conventions:
    """What frameworks do unasked, where it matters."""

    initialisation: Literal["he", "glorot"] = "he"
    """`he`: normal (He et al. 2015, Eq. 10), which keeps a plain network of 14 ReLU layers alive. `glorot`: uniform (Glorot and
    Bengio 2010, Eq. 16). Biases are zero."""
    batch_norm_epsilon: float = 1e-5
    batch_norm_momentum: float = 0.1
    """Weight of a batch's statistics in the running ones."""
    adam_epsilon: float = 1e-8
    scaling: Literal["standard", "unit"] = "standard"
    """Of the images: mean 0 and standard deviation 1 by channel over the training images, or simply 0 to 1."""


TORCH = Conventions()
KERAS = Conventions("glorot", batch_norm_epsilon=1e-3, batch_norm_momentum=0.01, adam_epsilon=1e-7, scaling="unit")


@dataclass(frozen=True)
class Network:
    """A network as data."""

    layers: tuple[Layer, ...]
    conventions: Conventions = TORCH


CNN: dict[str, Network] = {
    # Paper a, table 1. The table prints 4x4 for the first convolution to 128 and 2x2 after the next pool: stride 2 is the
    # reading that fits every printed size.
    "cnn_a": Network(
        (
            *[Conv(32)] * 3,
            Pool(),
            *[Conv(64)] * 4,
            Pool(),
            Conv(128, stride=2),
            *[Conv(128)] * 3,
            Pool(),
            *[Conv(128)] * 3,
            GlobalAverage(),
        )
    ),
    # Paper b, table 1, which is garbled: this is our reading of its rows (quantity, channels in and out).
    "cnn_b": Network(
        (
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
        )
    ),
    # The report of the study `architectures`: its experiments 1 (and 3), 2 and 4, in Keras.
    "base": Network((Conv(32, padding="valid"), Pool(), Flatten(), Dense(128)), KERAS),
    "deeper": Network(
        (
            Conv(32, padding="valid"),
            Pool(),
            Dropout(0.25),
            Conv(128, padding="valid"),
            Pool(),
            Flatten(),
            Dense(128),
            Dropout(0.5),
        ),
        KERAS,
    ),
    "normalised": Network((Conv(32, padding="valid"), BatchNorm(), Pool(), Flatten(), Dense(128), BatchNorm()), KERAS),
}


def build(
    name: str,
    in_channels: int,
    n_classes: int,
    generator: torch.Generator,
    *,
    image_size: tuple[int, int] = (32, 32),
    batch_norm: bool = False,
) -> nn.Sequential:
    """Build and initialise a network.

    Args:
        name: a key of `CNN`.
        in_channels: channels of the images, at least 1.
        n_classes: units of the last layer, at least 2.
        generator: a CPU generator; the only source of randomness (no global generator is drawn from).
        image_size: height and width; networks that flatten are made for it, others take any.
        batch_norm: put batch normalisation between each convolution and its ReLU. The papers mention none.

    Returns:
        A float32 network on the CPU from images (B, in_channels, H, W) to logits (B, n_classes);
        see `check_image_size` for the smallest.

    Raises:
        ValueError: unknown name.
    """
    if name not in CNN:
        raise ValueError(f"model {name!r} is unknown, allowed are {', '.join(CNN)}")
    network = CNN[name]
    # Built without storage first: torch's constructors would initialise from the global generator.
    with torch.device("meta"):
        modules = _modules(network, in_channels, image_size, n_classes, batch_norm)
    built = nn.Sequential(*modules)
    built.to_empty(device="cpu")
    _initialise(built, network.conventions, generator)
    return built


def _modules(
    network: Network, channels: int, image_size: tuple[int, int], n_classes: int, batch_norm: bool
) -> list[nn.Module]:
    conventions = network.conventions
    normalisation = {"eps": conventions.batch_norm_epsilon, "momentum": conventions.batch_norm_momentum}
    modules: list[nn.Module] = []
    height, width = image_size
    flat = False
    for layer in network.layers:
        match layer:
            case Conv(filters, stride, padding):
                filters = filters or channels
                margin = 1 if padding == "same" else 0
                modules.append(nn.Conv2d(channels, filters, 3, stride, padding=margin, bias=not batch_norm))
                if batch_norm:
                    modules.append(nn.BatchNorm2d(filters, **normalisation))  # type: ignore[arg-type]
                modules.append(nn.ReLU(inplace=True))
                channels = filters
            case Pool():
                modules.append(nn.MaxPool2d(2))
            case GlobalAverage():
                modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
                flat = True
            case Flatten():
                modules.append(nn.Flatten())
                channels, flat = channels * height * width, True
            case Dense(units):
                modules += [nn.Linear(channels, units), nn.ReLU(inplace=True)]
                channels = units
            case Dropout(rate):
                modules.append(nn.Dropout(rate))
            case BatchNorm():
                kind = nn.BatchNorm1d if flat else nn.BatchNorm2d
                modules.append(kind(channels, **normalisation))  # type: ignore[arg-type]
        height, width = _size_after(layer, height), _size_after(layer, width)
    return [*modules, nn.Linear(channels, n_classes)]


@torch.no_grad()
def _initialise(network: nn.Module, conventions: Conventions, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if conventions.initialisation == "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            else:
                nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()


def _size_after(layer: Layer, size: int) -> int:
    """Height or width after a layer; 0 if nothing is left."""
    if isinstance(layer, Pool):
        return size // 2
    if isinstance(layer, Conv):
        return -(-size // layer.stride) if layer.padding == "same" else max(0, -(-(size - 2) // layer.stride))
    return size


def check_image_size(name: str, height: int, width: int) -> None:
    """Raise ValueError if images are so small that a network would leave nothing of them."""
    left = min(height, width)
    for layer in CNN[name].layers:
        left = _size_after(layer, left)
        if left == 0:
            raise ValueError(f"images of {height}x{width} are too small for {name}: pooling leaves nothing of them")


def count_parameters(network: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
