"""What every selection strategy has in common."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pydyn.errors import RunError

Indices = NDArray[np.int64]
Scores = NDArray[np.float32]
Generator = np.random.Generator


@dataclass(frozen=True)
class Parameters(ABC):
    """A strategy as it is declared: immutable, hashable, independent of a pool. Wrong values raise ValueError."""

    # Read by pydantic where a configuration holds strategies: unknown keys and wrong types are refused there.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "strict": True,
        "allow_inf_nan": False,
        "use_attribute_docstrings": True,
    }

    name: str

    @property
    @abstractmethod
    def label(self) -> str:
        """Short and readable, different for different parameters: part of a Run's id."""

    @abstractmethod
    def subset_size(self, n_pool: int) -> int:
        """How many images an epoch trains on, at most, given the pool's size. Raises ValueError if the pool is too small."""

    @abstractmethod
    def build(self, n_pool: int, generator: Generator, epochs: int) -> "Strategy":
        """The strategy over a pool of `n_pool` images for a training of `epochs`, making all its draws from `generator`."""


@dataclass(frozen=True)
class Outcome:
    """What a strategy hears after an epoch. Raises ValueError for an accuracy out of range."""

    accuracy: float
    """Of the validation set, in 0..1."""
    losses: Scores | None = None
    """(len(subset),): the loss of each image of the epoch's subset, in the subset's order, when it was trained."""
    margins: Scores | None = None
    """(len(subset),), in [0, 1]: likewise, top-1 minus top-2 probability."""

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy = {self.accuracy} must be in 0 to 1, not in percent")


@dataclass(frozen=True)
class Resampling:
    """What a strategy did to its subset after an epoch."""

    kind: Literal["none", "I", "II"] = "none"
    """Type I replaces images of the current subset (Eq. 1), type II of the best one (Eq. 2). Of Dynamic Training only."""
    replaced: int = 0
    """How many of the images in the new subset were drawn from outside the one it was made from: the current or the best."""
    beta: float = 0.0
    """The share that was to be replaced at this epoch (Eq. 3)."""


class Strategy(ABC):
    """Chooses the images of each epoch. Not tied to a framework: indices in, accuracy back.

    Example::

        strategy = Dynamic(alpha=0.5, beta=0.7).build(len(images), np.random.default_rng(0), epochs)
        for epoch in range(epochs):
            train(images[strategy.subset()])
            strategy.update(Outcome(accuracy=evaluate()))
    """

    _saved: ClassVar[tuple[str, ...]]
    """What a state holds beside the generator: attributes, without the underscore before them. They are numbers, indices into the
    pool (int64, distinct) and other arrays of one dimension; their types do not change."""
    _of_any_length: ClassVar[tuple[str, ...]] = ()
    """The arrays among them whose length changes."""

    def __init__(self, parameters: Parameters, n_pool: int, generator: Generator) -> None:
        self._declared = parameters
        self._n_pool = n_pool
        self._generator = generator

    @abstractmethod
    def subset(self) -> Indices:
        """This epoch's images: distinct indices into the pool, int64, ascending. The order of training is the loop's."""

    def weights(self) -> Scores | None:
        """(len(subset),): by what to multiply each image's loss, in the subset's order; None: all by 1."""
        return None

    @abstractmethod
    def update(self, outcome: Outcome) -> Resampling:
        """Hear the epoch's outcome and choose the next subset. Raises ValueError if it lacks scores that the strategy uses."""

    def look_ahead(self) -> None:  # noqa: B027 (most strategies have nothing to draw)
        """Make random numbers that `update` may need, while a GPU trains on the subset. Never needed: subsets are the same."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on, as it is now: arrays, numbers, strings and dictionaries of them."""
        saved = {name: getattr(self, f"_{name}") for name in self._saved}
        # Copied, here and below: strategies write into their arrays.
        return copy.deepcopy({"of": self._identity(), **saved, "generator": self._generator.bit_generator.state})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`: the same outcomes then give the same subsets.

        Raises RunError for a state of another strategy, of one with other parameters or of another pool, and for what is none;
        nothing has changed then.
        """
        self._check(state)
        bit_generator = copy.deepcopy(self._generator.bit_generator)
        try:
            bit_generator.state = state["generator"]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._refusal(f"generator is not one's state ({type(error).__name__}: {error})") from None
        self._generator.bit_generator.state = bit_generator.state
        for name in self._saved:
            setattr(self, f"_{name}", copy.deepcopy(state[name]))

    def _check(self, state: dict[str, Any]) -> None:
        """Raise RunError for what was not saved by a strategy like this one, as far as arrays and numbers tell."""
        if not isinstance(state, dict) or not isinstance(state.get("of"), dict):
            raise self._refusal("it does not say of which")
        theirs, identity = state["of"], self._identity()
        for name in [*identity, *theirs]:
            found, mine = theirs.get(name), identity.get(name)
            if isinstance(found, np.ndarray) or found != mine:
                raise self._refusal(f"{name} = {found!r}, allowed is {mine!r}")
        allowed = {"of", "generator", *self._saved}
        if state.keys() != allowed:
            raise self._refusal(f"it has {listed(state)}, allowed are {listed(allowed)}")
        for name in self._saved:
            self._check_value(name, state[name], getattr(self, f"_{name}"))

    def _check_value(self, name: str, value: Any, mine: Any) -> None:
        if not isinstance(value, type(mine)):
            raise self._refusal(f"{name} is a {type(value).__name__}, allowed is a {type(mine).__name__}")
        if not isinstance(mine, np.ndarray):
            return
        if value.dtype != mine.dtype or value.ndim != 1:
            raise self._refusal(f"{name} has {value.ndim} dimensions of {value.dtype}, allowed is one of {mine.dtype}")
        if name not in self._of_any_length and len(value) != len(mine):
            raise self._refusal(f"{name} has length {len(value)}, allowed is {len(mine)}")
        if mine.dtype == np.int64 and not _are_distinct_below(value, self._n_pool):
            raise self._refusal(f"{name} must be distinct images, of 0 to {self._n_pool - 1}")

    def _refusal(self, problem: str) -> RunError:
        return RunError(
            f"state of a strategy: {problem}; load it where the strategy, its parameters and the pool are the same"
        )

    def _identity(self) -> dict[str, Any]:
        """What two strategies must have in common for one to go on from the other's state: plain numbers and strings."""
        declared = {**asdict(self._declared), "n_pool": self._n_pool}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in declared.items()}


def _are_distinct_below(indices: Indices, limit: int) -> bool:
    if len(indices) and not (indices.min() >= 0 and indices.max() < limit):
        return False
    # Not by np.unique, which takes seconds for millions.
    found = np.zeros(limit, dtype=np.bool_)
    found[indices] = True
    return int(found.sum()) == len(indices)


def listed(keys: Iterable[Any]) -> str:
    """Keys of a state, whatever they are, as an error names them."""
    return ", ".join(sorted(map(repr, keys)))


def needed(scores: Scores | None, name: str, subset: Indices) -> Scores:
    """The scores of an outcome. Raises ValueError if they are missing or of another number of images."""
    if scores is None or scores.shape != subset.shape:
        got = "none" if scores is None else f"shape {scores.shape}"
        raise ValueError(f"outcome.{name}: one is needed for each of the {len(subset)} images of the subset, got {got}")
    return scores


def count_of(alpha: int | float, n_pool: int) -> int:
    """The number of images that `alpha` stands for: itself if an int, the nearest integer to its share of the pool if a float.

    Raises ValueError if it is below one image or above the pool.
    """
    count = alpha if isinstance(alpha, int) else round(alpha * n_pool)
    if not 1 <= count <= n_pool:
        raise ValueError(f"alpha = {alpha} is {count} images, allowed is 1 to {n_pool} (the pool)")
    return count


def check_alpha(alpha: int | float) -> None:
    """Raise ValueError unless `alpha` is a count (int, at least 2) or a share (float, above 0, at most 1)."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ValueError(f"alpha = {alpha!r} must be a count of images (an integer) or a share of the pool (a decimal)")
    if isinstance(alpha, int) and alpha < 2:
        raise ValueError(f"alpha = {alpha} as a count of images must be at least 2; write the whole pool as 1.0")
    if isinstance(alpha, float) and not 0 < alpha <= 1:
        raise ValueError(
            f"alpha = {alpha} as a share of the pool must be above 0 and at most 1; write a count as an integer"
        )


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value} must be in [0, 1]")
