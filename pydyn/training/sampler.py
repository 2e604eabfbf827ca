"""Selection strategies in other people's training loops: a sampler for any DataLoader."""

import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from pydyn.errors import RunError
from pydyn.seeding import numpy_generator, torch_generator
from pydyn.selection.strategy import Outcome, Parameters, Resampling, listed
from pydyn.training.checkpoint import arrays_to_tensors, loading, tensors_to_arrays


class DynamicSubsetSampler(Sampler[int]):
    """The images that a strategy chooses for an epoch, in random order: for `DataLoader(dataset, sampler=...)`.

    Any strategy of `pydyn.selection` will do, Dynamic Training and its controls. All draws come from generators of its own, keyed
    by the seed: samplers do not disturb each other, nor anything else. Every pass over it gives the same epoch in the same order
    until `update` ends the epoch, so that a look ahead, as Lightning takes, costs nothing. In several processes all draw alike,
    each the whole epoch: how to share it out is in docs/library.md.

    Example::

        sampler = DynamicSubsetSampler(Dynamic(alpha=0.5, beta=0.7), len(dataset), epochs=30, seed=0)
        loader = DataLoader(dataset, batch_size=128, sampler=sampler)
        for epoch in range(30):
            for images, labels in loader:
                ...
            sampler.update(accuracy_on_validation_images)
    """

    def __init__(self, parameters: Parameters, n_pool: int, *, epochs: int, seed: int) -> None:
        """Draw the first subset.

        Args:
            parameters: the strategy, as `Dynamic(alpha=0.5, beta=0.7)`.
            n_pool: images in the data set, at least 1.
            epochs: of the whole training, at least 1; only InfoBatch depends on it.
            seed: of every draw, at least 0.

        Raises ValueError if a number is none of these, or the strategy does not fit the pool.
        """
        n_pool, epochs = _count("n_pool", n_pool, 1), _count("epochs", epochs, 1)
        seed = _count("seed", seed, 0)
        parameters.subset_size(n_pool)
        self._strategy = parameters.build(n_pool, numpy_generator(seed, "selection"), epochs)
        self._seed = seed
        self._epoch = 1

    def __len__(self) -> int:
        """Images in this epoch."""
        return len(self._strategy.subset())

    def __iter__(self) -> Iterator[int]:
        """This epoch's images in its order."""
        yield from self._strategy.subset()[self._order()].tolist()

    def _order(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        generator = torch_generator(self._seed, "order", self._epoch)
        return torch.randperm(len(self), generator=generator, device="cpu").numpy()

    def weights(self) -> torch.Tensor | None:
        """What to multiply each image's loss by, (len(self),) in the order of iteration, float32; None: all by 1."""
        weights = self._strategy.weights()
        return None if weights is None else torch.from_numpy(weights[self._order()])

    def update(
        self, accuracy: float, *, losses: ArrayLike | None = None, margins: ArrayLike | None = None
    ) -> Resampling:
        """End the epoch and choose the next subset.

        Args:
            accuracy: on validation images, in 0..1.
            losses: (len(self),), of the epoch's images in the order of iteration, as they were when trained and before they were
                multiplied by `weights()`. InfoBatch and replacements `hard` need them.
            margins: likewise, top-1 minus top-2 probability. Replacements `ambiguous` need them.

        Returns what the strategy did. Raises ValueError for an accuracy out of range, and for scores that are missing or of
        another number of images.
        """
        accuracy = float(accuracy)  # of NumPy's, a state would not load with weights_only=True
        resampling = self._strategy.update(Outcome(accuracy, self._by_subset(losses), self._by_subset(margins)))
        self._epoch += 1
        return resampling

    def _by_subset(self, scores: ArrayLike | None) -> "np.ndarray[Any, np.dtype[np.float32]] | None":
        if scores is None:
            return None
        if isinstance(scores, torch.Tensor):
            scores = scores.detach().float().cpu()
        given = np.asarray(scores, dtype=np.float32)
        if given.shape != (len(self),):
            raise ValueError(
                f"scores of shape {given.shape}: one is needed for each of the epoch's {len(self)} images; "
                "a DataLoader with drop_last=True leaves some out"
            )
        placed = np.empty_like(given)
        placed[self._order()] = given
        return placed

    def state_dict(self) -> dict[str, Any]:
        """Everything that later epochs depend on, for `torch.save`; it loads with `weights_only=True`.

        It is of the epoch's beginning, also while the epoch is trained: gone on from, all of its images come again.
        """
        state: dict[str, Any] = arrays_to_tensors(self._strategy.state_dict())
        return {"strategy": state, "epoch": self._epoch, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a sampler with the same strategy and pool.

        Raises RunError for anything else; nothing has changed then.
        """
        if not isinstance(state, dict):
            raise RunError(f"not a sampler's state: it is a {type(state).__name__}, needed is a dict")
        needed = {"strategy", "epoch", "seed"}
        if state.keys() != needed:
            raise RunError(f"not a sampler's state: it has {listed(state)}, needed are {listed(needed)}")
        for name, least in (("epoch", 1), ("seed", 0)):
            if not isinstance(state[name], int) or state[name] < least:
                raise RunError(f"not a sampler's state: {name} = {state[name]!r}, allowed is an integer from {least}")
        with loading():
            strategy = tensors_to_arrays(state["strategy"])
        self._strategy.load_state_dict(strategy)
        self._epoch = state["epoch"]
        self._seed = state["seed"]


def _count(name: str, value: SupportsIndex, least: int) -> int:
    """As a plain integer: a state that held one of NumPy's would not load with weights_only=True."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{name} = {value!r} must be a whole number of at least {least}")
    return count
