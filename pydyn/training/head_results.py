"""What trained heads leave, and which of them wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from pydyn.models.head_setting import HeadSetting
from pydyn.models.heads import from_weights

Ending = Literal["epochs", "patience", "halving", "diverged"]


@dataclass(frozen=True)
class HeadEpoch:
    """One row of a head's history."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean cross-entropy of the training rows as each was trained: with class weights and label smoothing, without ambiguity."""
    validation_loss: float
    """Mean cross-entropy after the epoch, with class weights alone."""
    validation_accuracy: float
    """In 0..1."""
    balanced_accuracy: float
    """On the validation rows, in 0..1: mean over its classes of the share that is recognised."""


@dataclass(frozen=True)
class HeadResult:
    """A trained head."""

    setting: HeadSetting
    history: tuple[HeadEpoch, ...]
    best_epoch: int
    """The first of the lowest validation loss, from 1."""
    weights: dict[str, Tensor]
    """Of the best epoch, on the CPU: for `head`, `pydyn.models.heads.from_weights` or a file."""
    seconds: float
    """Wall time of its epochs: an epoch of a population is shared evenly among its heads. Preparing the data is not in it."""
    ending: Ending
    """What ended it: all epochs done, patience, being in the worse half, or a validation loss that is no number."""

    @property
    def best(self) -> HeadEpoch:
        """The best epoch's row."""
        return self.history[self.best_epoch - 1]

    def head(self) -> nn.Sequential:
        """The network with its best weights, in evaluation mode, for features as they were before standardisation."""
        return from_weights(self.weights)


@dataclass(frozen=True)
class Progress:
    """Where a training of heads stands after an epoch."""

    epoch: int
    epochs: int
    running: int
    """Heads that go on."""
    n_heads: int
    best: HeadEpoch
    """Of the head that would win now."""


def winner(results: Sequence[HeadResult]) -> HeadResult:
    """The head of the lowest validation loss at its best epoch, the first among equals."""
    return min(results, key=lambda result: standing(result.best))


def standing(row: HeadEpoch) -> float:
    """What ranks heads by their best epochs, the better first in ascending order. A loss that is no number is the worst."""
    return row.validation_loss if row.validation_loss == row.validation_loss else float("inf")
