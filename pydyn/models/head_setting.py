"""One head and how it is trained, as data. Imports no torch: configuration and lists of Runs can hold it."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "redesigned"]


@dataclass(frozen=True)
class HeadSetting:
    """A head on frozen features: its shape, its optimiser (AdamW), its loss, its seed. Immutable, hashable.

    A sample weighs 1 + strength (1 - margin)^power in the loss, with the margin of its two largest probabilities; the formula is
    ours, its source gives none: see `pydyn.ops.ambiguity_cross_entropy`. Wrong values raise ValueError.
    """

    kind: Kind
    """`linear`: Linear. `redesigned`: Linear, BatchNorm1d, ReLU, Dropout, Linear."""
    learning_rate: float
    """Above 0."""
    weight_decay: float = 0.0
    """Decoupled, at least 0. It is the linear layers' weights that decay, not biases and normalisation."""
    strength: float = 0.0
    """lambda, at least 0: what a wholly ambiguous sample weighs on top of 1. 0 is plain cross-entropy."""
    power: float = 1.0
    """kappa, at least 0: how much the weight concentrates on small margins. Without a threshold only."""
    threshold: float | None = None
    """0 to 1; the other form of the weight: 1 + strength where the margin is below it, else 1."""
    normalisation: Literal["mean", "weighted_mean"] = "mean"
    """What the sum of weighted losses is divided by: the sum of class weights, or of ambiguity times class weights."""
    label_smoothing: float = 0.0
    """0 to 1: share of the target spread evenly over all classes."""
    hidden: int | None = None
    """Units between the two layers of `redesigned`, at least 1; `linear` has none."""
    dropout: float = 0.0
    """Of `redesigned`: rate at which its units are dropped, at least 0 and below 1."""
    batch_size: int = 128
    """At least 2."""
    seed: int = 0
    """Of initialisation, order and dropout, at least 0."""

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, ("linear", "redesigned"))
        _check_choice("normalisation", self.normalisation, ("mean", "weighted_mean"))
        if not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate = {self.learning_rate!r} is not a finite number above 0")
        for name in ("weight_decay", "strength", "power"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise ValueError(f"{name} = {value!r} is not a finite number of at least 0")
        for name in ("label_smoothing", "threshold"):
            value = getattr(self, name)
            if not (value is None and name == "threshold") and not (_is_number(value) and 0 <= value <= 1):
                raise ValueError(f"{name} = {value!r} is not a number from 0 to 1")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout = {self.dropout!r} is not a number of at least 0 and below 1")
        _check_count("batch_size", self.batch_size, 2)
        _check_count("seed", self.seed, 0)
        if self.kind == "redesigned":
            _check_count("hidden", self.hidden, 1)
        elif self.hidden is not None or self.dropout:
            name = "dropout" if self.hidden is None else "hidden"
            raise ValueError(f"{name} = {getattr(self, name)!r}: a linear head has no hidden units; leave it out")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r} is none of {', '.join(allowed)}")


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} = {value!r} is not a whole number of at least {least}")
