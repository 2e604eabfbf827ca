"""Many tiny networks of one architecture trained side by side.

The thesis trains each combination of filters a few times and gets another end each time: what decides that takes hundreds of
trainings. On a CPU each thread trains one network at a time by a trainer of its own (`csrc/population.h`): a step of batch 32
takes 0.05 ms for 2-2 and 0.09 ms for 4-4 on a core of an EPYC with AVX-512, where eager torch takes 1.7 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pydyn.data.store import ImageStore
from pydyn.errors import RunError
from pydyn.models.initialisers import INITIALISERS, initial_parameters
from pydyn.models.tiny import TinyCNN
from pydyn.ops import OPTIMISERS, GreyImages, population_epoch, population_evaluate
from pydyn.seeding import numpy_generator

BATCH_SIZE = 32
"""Keras's default; the thesis names none."""


@dataclass(frozen=True)
class Member:
    """What tells one network of a population from another. Raises ValueError for what is not allowed."""

    seed: int
    """Of its initial weights and of the order of its images."""
    learning_rate: float = 1e-3
    """Keras's default for Adam and RMSprop; for SGD it is 0.01."""
    initialiser: str = "glorot_uniform"
    """A key of `pydyn.models.initialisers.INITIALISERS`."""
    optimiser: str = "adam"
    """One of `pydyn.ops.OPTIMISERS`."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed} must be at least 0")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate = {self.learning_rate} must be above 0 and finite")
        for name, value, allowed in (
            ("initialiser", self.initialiser, INITIALISERS),
            ("optimiser", self.optimiser, OPTIMISERS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} = {value!r} is unknown, allowed are {', '.join(allowed)}")


@dataclass(frozen=True)
class PopulationEpoch:
    """What an epoch gave, an entry for each of K members."""

    epoch: int
    """From 1."""
    train_loss: NDArray[np.float64]
    """(K,), mean over the epoch's images, each seen once while the weights change; NaN where a training diverged."""
    train_accuracy: NDArray[np.float64]
    """(K,), likewise, in 0..1."""
    validation_accuracy: NDArray[np.float64]
    """(K,), after the epoch, in 0..1."""
    dead_filters: NDArray[np.int64]
    """(K, layers): filters whose maps are 0 on every validation image."""
    dead_outputs: NDArray[np.int64]
    """(K,): outputs that are above 0 for no validation image. With a ReLU on them these have no gradient left."""
    unpredicted_classes: NDArray[np.int64]
    """(K,): classes that are predicted for no validation image."""


_PER_MEMBER = tuple(field.name for field in fields(PopulationEpoch) if field.name != "epoch")


class Population:
    """K networks in training: everything that changes from epoch to epoch.

    A member's numbers are its own. On a CPU they are the same, to the last bit, in any population, with any number of
    threads, and across a `state_dict`. In plain torch (other devices, no extension) the order of sums may depend on the number
    of members: there they agree to a few units in the sixth digit after some steps, and exactly among the same members.
    """

    def __init__(
        self,
        architecture: TinyCNN,
        members: Sequence[Member],
        train: GreyImages,
        validation: GreyImages,
        *,
        batch_size: int = BATCH_SIZE,
        clipped: bool = False,
    ) -> None:
        """Draw the initial weights.

        Args:
            architecture: of all members.
            members: at least one.
            train: images to train on; they decide the device.
            validation: images to evaluate on, normalised in the same way, on the same device.
            batch_size: at least 1; an epoch's last batch may be smaller.
            clipped: train by the loss of Keras up to version 2.2, see `pydyn.ops.population_epoch`.

        Raises ValueError if there are no members or no images, or images do not fit the architecture.
        """
        if not members:
            raise ValueError("members: a population needs at least one")
        for name, images in (("train", train), ("validation", validation)):
            if len(images) == 0:
                raise ValueError(f"{name}: holds no images")
            if images.image_size != architecture.image_size:
                raise ValueError(
                    f"{name}: images of {images.image_size} do not fit a network for {architecture.image_size}"
                )
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} must be at least 1")
        self.architecture = architecture
        self.members = tuple(members)
        self.batch_size = batch_size
        self.clipped = clipped
        self._train = train
        self._validation = validation
        device = train.pixels.device
        drawn = [
            initial_parameters(architecture, member.initialiser, numpy_generator(member.seed, "initialisation"))
            for member in members
        ]
        self.parameters = torch.stack(drawn).to(device)
        """(K, P) float32, of the last epoch."""
        self.best_parameters = self.parameters.clone()
        """(K, P) float32, of each member's first epoch with its best validation accuracy."""
        self.best_accuracy = np.full(len(members), -1.0)
        """(K,), in 0..1; -1 before the first epoch."""
        self.best_epoch = np.zeros(len(members), dtype=np.int64)
        """(K,), from 1."""
        self.epoch = 0
        self._moments = torch.zeros(len(members), 2, architecture.n_parameters, dtype=torch.float32, device=device)
        rates = [member.learning_rate for member in members]
        self._learning_rates = torch.tensor(rates, dtype=torch.float32, device=device)
        self._optimisers = torch.tensor([OPTIMISERS.index(member.optimiser) for member in members], device=device)
        self._settled = np.zeros(len(members), dtype=np.bool_)
        self._latest = PopulationEpoch(
            epoch=0,
            train_loss=np.full(len(members), np.nan),
            train_accuracy=np.zeros(len(members)),
            validation_accuracy=np.zeros(len(members)),
            dead_filters=np.zeros((len(members), len(architecture.filters)), dtype=np.int64),
            dead_outputs=np.zeros(len(members), dtype=np.int64),
            unpredicted_classes=np.zeros(len(members), dtype=np.int64),
        )

    @property
    def settled(self) -> NDArray[np.bool_]:
        """(K,): members whose parameters an epoch left as they were, to the bit. They stay so, and epochs pass them over.

        With a clipped loss this is how most trainings end, stuck or not: no image has a gradient any more, and what an optimiser
        has averaged fades faster than what it divides by, so that its steps, too small already to change a number, only shrink.
        """
        return self._settled.copy()

    def run_epoch(self) -> PopulationEpoch:
        """Train every member on all images once, in its own order, and evaluate it."""
        steps = -(-len(self._train) // self.batch_size)
        step = self.epoch * steps
        self.epoch += 1
        working = np.flatnonzero(~self._settled)
        if len(working):
            self._train_and_evaluate(working, step)
        self._keep_best(self._latest.validation_accuracy)
        arrays = {name: getattr(self._latest, name).copy() for name in _PER_MEMBER}
        return PopulationEpoch(epoch=self.epoch, **arrays)

    def _train_and_evaluate(self, working: NDArray[np.int64], step: int) -> None:
        """An epoch of some members: positions (k,). Their row of `_latest` changes, and whether they have settled."""
        rows = torch.from_numpy(working).to(self.parameters.device)
        before, moments = self.parameters[rows], self._moments[rows]
        parameters = before.clone()
        loss, correct = population_epoch(
            self.architecture,
            self._train,
            self._order(working).to(parameters.device),
            parameters,
            moments,
            self._learning_rates[rows],
            self._optimisers[rows],
            step=step,
            batch_size=self.batch_size,
            clipped=self.clipped,
        )
        self.parameters[rows], self._moments[rows] = parameters, moments
        predictions, active = population_evaluate(self.architecture, self._validation, parameters)
        *filters, outputs = active.cpu().split([*self.architecture.filters, self.architecture.n_classes], 1)
        classes = torch.arange(self.architecture.n_classes, device=predictions.device)
        measured = {
            "train_loss": loss / len(self._train),
            "train_accuracy": correct.double() / len(self._train),
            "validation_accuracy": (predictions == self._validation.labels).sum(1).double() / len(self._validation),
            "dead_filters": torch.stack([(~layer).sum(1) for layer in filters], 1),
            "dead_outputs": (~outputs).sum(1),
            "unpredicted_classes": (predictions[..., None] != classes).all(1).sum(1),
        }
        for name, values in measured.items():
            getattr(self._latest, name)[working] = values.double().cpu().numpy()
        # Compared as bits: a number that diverged equals itself.
        unchanged = (before.view(torch.int32) == parameters.view(torch.int32)).all(1)
        self._settled[working] = unchanged.cpu().numpy()

    def _order(self, working: NDArray[np.int64]) -> Tensor:
        orders = [
            numpy_generator(self.members[position].seed, "order", self.epoch).permutation(len(self._train))
            for position in working
        ]
        return torch.from_numpy(np.stack(orders))

    def _keep_best(self, accuracy: NDArray[np.float64]) -> None:
        better = accuracy > self.best_accuracy
        self.best_accuracy[better] = accuracy[better]
        self.best_epoch[better] = self.epoch
        rows = torch.from_numpy(better).to(self.parameters.device)
        self.best_parameters[rows] = self.parameters[rows]

    def state_dict(self) -> dict[str, Any]:
        """Everything that later epochs depend on, for `torch.save`; it loads with `weights_only=True`."""
        return {
            **self._identity(),
            "epoch": self.epoch,
            "parameters": self.parameters.clone(),
            "moments": self._moments.clone(),
            "best_parameters": self.best_parameters.clone(),
            "best_accuracy": torch.from_numpy(self.best_accuracy.copy()),
            "best_epoch": torch.from_numpy(self.best_epoch.copy()),
            "settled": torch.from_numpy(self._settled.copy()),
            "latest": {name: torch.from_numpy(getattr(self._latest, name).copy()) for name in _PER_MEMBER},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of the same population. Raises RunError for one of another."""
        for name, mine in self._identity().items():
            if not isinstance(state, dict) or state.get(name) != mine:
                raise RunError(f"a population's state is of another {name}: remove its checkpoint and train anew")
        self.epoch = state["epoch"]
        self.parameters.copy_(state["parameters"])
        self._moments.copy_(state["moments"])
        self.best_parameters.copy_(state["best_parameters"])
        self.best_accuracy = state["best_accuracy"].numpy(force=True).copy()
        self.best_epoch = state["best_epoch"].numpy(force=True).copy()
        self._settled = state["settled"].numpy(force=True).copy()
        for name in _PER_MEMBER:
            getattr(self._latest, name)[:] = state["latest"][name].numpy(force=True)

    def _identity(self) -> dict[str, Any]:
        """What two populations must have in common for one to go on from the other's state."""
        return {
            "architecture": repr(self.architecture),
            "members": list(map(repr, self.members)),
            "batch_size": self.batch_size,
            "clipped": self.clipped,
        }


def images_of(
    store: ImageStore, *parts: str, mean: float = 0.0, std: float = 1.0, device: torch.device | str = "cpu"
) -> GreyImages:
    """The grey images of some parts (`train`, `validation`, `test`) of a store, in its order.

    Args:
        store: opened, of images with one channel.
        parts: one or more.
        mean: in units of 0..1, see `GreyImages`.
        std: likewise.
        device: to hold them.

    Raises RunError if the images have colours.
    """
    if store.image_shape[2] != 1:
        raise RunError(f"image store {store.path}: tiny networks see grey images; set `channels: 1` of the data set")
    index = store.indices(*parts)
    pixels = torch.from_numpy(store.images(index)[..., 0])
    return GreyImages(pixels, torch.from_numpy(store.labels[index]), mean, std).to(device)
