"""Heads on frozen features, as plain torch modules: for export, prediction, and to know what a population computes.

Source: a paper on pre-computed features and ambiguity-weighted training (study `frugal`), whose head is Linear, BatchNorm1d,
ReLU, Dropout, Linear.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pydyn.models.head_setting import Kind

# Of the last layer's initial weights, as in DINOv2's linear evaluation: probabilities begin all but even.
OUTPUT_STD = 0.01


@dataclass(frozen=True)
class Standardisation:
    """Features become (features - mean) * scale."""

    mean: Tensor
    """(D,) float32."""
    scale: Tensor
    """(D,) float32: 1 / standard deviation, 0 for a dimension without any."""


class Standardise(nn.Module):
    """`Standardisation` as a layer: (B, D) of any floating dtype to float32 (B, D)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, features: Tensor) -> Tensor:
        """Shift and scale."""
        return (features.float() - self.mean) * self.scale


def build(
    kind: Kind,
    n_features: int,
    n_classes: int,
    generator: torch.Generator,
    *,
    hidden: int | None = None,
    dropout: float = 0.0,
    standardised: bool = False,
) -> nn.Sequential:
    """Build and initialise a head.

    `linear` is Linear(D, C). `redesigned` is Linear(D, H), BatchNorm1d, ReLU, Dropout, Linear(H, C); its first layer has no bias,
    because the normalisation takes off whatever it would add. Hidden weights are drawn by He initialisation (He et al. 2015,
    Eq. 10); those of the last layer from a normal distribution of standard deviation 0.01, as in DINOv2's linear evaluation;
    biases are zero.

    Args:
        kind: `linear` or `redesigned`.
        n_features: D, at least 1.
        n_classes: C, at least 2.
        generator: a CPU generator; the only source of randomness (no global generator is drawn from).
        hidden: H, of `redesigned`.
        dropout: rate, of `redesigned`.
        standardised: begin with `Standardise`, still without effect.

    Returns:
        A float32 network on the CPU, in training mode, from features (B, D) to logits (B, C). Its layers are named `standardise`,
        `hidden`, `norm`, `relu`, `dropout` and `output`, as far as it has them.

    Raises:
        ValueError: a kind that is unknown, or without the hidden units that it needs.
    """
    if kind not in ("linear", "redesigned"):
        raise ValueError(f"kind = {kind!r} is none of linear, redesigned")
    if kind == "redesigned" and hidden is None:
        raise ValueError("hidden = None: a redesigned head needs its number of hidden units")
    # Without storage first: torch's constructors would initialise from the global generator.
    with torch.device("meta"):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if standardised:
            layers["standardise"] = Standardise(n_features)
        if kind == "redesigned" and hidden is not None:
            layers["hidden"] = nn.Linear(n_features, hidden, bias=False)
            layers["norm"] = nn.BatchNorm1d(hidden)
            layers["relu"] = nn.ReLU()
            layers["dropout"] = nn.Dropout(dropout)
        layers["output"] = nn.Linear(hidden or n_features, n_classes)
        head = nn.Sequential(layers).float()
    head.to_empty(device="cpu")
    _initialise(head, generator)
    return head


@torch.no_grad()
def _initialise(head: nn.Sequential, generator: torch.Generator) -> None:
    for name, layer in head.named_children():
        if isinstance(layer, Standardise):
            layer.mean.zero_()
            layer.scale.fill_(1)
        elif isinstance(layer, nn.BatchNorm1d):
            layer.reset_parameters()
        elif name == "hidden" and isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=OUTPUT_STD, generator=generator)
            nn.init.zeros_(layer.bias)


def from_weights(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """The trained head that a state dictionary of `build` is of, in evaluation mode.

    Raises:
        ValueError: what is given is no head's state dictionary.
    """
    try:
        output = weights["output.weight"]
        hidden = weights.get("hidden.weight")
        head = build(
            "linear" if hidden is None else "redesigned",
            (output if hidden is None else hidden).shape[1],
            output.shape[0],
            torch.Generator(),
            hidden=None if hidden is None else hidden.shape[0],
            standardised="standardise.mean" in weights,
        )
        head.load_state_dict(weights)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"not the weights of a head: {error}") from None
    return head.eval()


@torch.no_grad()
def fold(head: nn.Sequential) -> nn.Sequential:
    """A head that takes features as they are: the same in evaluation mode, without its layer `standardise`.

    The scale goes into the first layer's weights; the shift into its bias, or, where a normalisation follows, into that one's
    running mean. A new network of torch's own layers, in evaluation mode; a head without `standardise` is copied.
    """
    weights = {name: value.detach().clone() for name, value in head.state_dict().items()}
    if "standardise.mean" in weights:
        mean, scale = (weights.pop(f"standardise.{name}").double() for name in ("mean", "scale"))
        first, shifted, sign = (
            ("hidden.weight", "norm.running_mean", 1)
            if "hidden.weight" in weights
            else ("output.weight", "output.bias", -1)
        )
        scaled = weights[first].double() * scale
        weights[first] = scaled.float()
        weights[shifted] = (weights[shifted].double() + sign * (scaled @ mean)).float()
    return from_weights(weights)
