"""Dynamic Training: a subset of the pool, part of which is replaced when accuracy stalls.

Sources: paper a (sections 3 and 4, figures 4 to 7, equations 1 to 3) and paper b (section 3) of the study `dynamic`.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from pydyn.selection.strategy import (
    Generator,
    Indices,
    Outcome,
    Parameters,
    Resampling,
    Scores,
    Strategy,
    check_alpha,
    check_share,
    count_of,
    needed,
)

Scheme = Literal["base", "best-set"]
Trigger = Literal["absolute", "signed"]
Replacements = Literal["uniform", "ambiguous", "hard"]

# Images that are sure of themselves keep a chance to come back.
LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class Dynamic(Parameters):
    """Dynamic Training as it is declared (papers a and b, section 3; `replacements` other than uniform are ours)."""

    name: Literal["dynamic"] = "dynamic"
    scheme: Scheme = "base"
    """Paper a, figure 4a (base) or 4b (best-set)."""
    alpha: int | float = 0.5
    """Images in the subset A: a count (int) or a share of the pool (float)."""
    beta: float = 0.7
    """beta_0 of Eq. 3, in [0, 1]: the share of A that a resampling replaces, before any decay."""
    gamma: float = 1.0
    """Decay of beta per epoch, in (0, 1]: beta_n = gamma^n beta_0 (Eq. 3). 1 keeps beta constant."""
    delta: float = 0.01
    """Accuracy threshold, in 0..1: 0.01 is one point."""
    trigger: Trigger = "absolute"
    """Scheme base resamples if |change| < delta (the pseudocode, figure 5) or if change < delta (the prose)."""
    replacements: Replacements = "uniform"
    """Which images of B replace others: `uniform` as published. `ambiguous` and `hard` are ours: images never trained come first,
    uniformly; the rest are drawn without replacement with probability in proportion to the last known ambiguity, which is 1 less
    the margin between the two largest probabilities, or to the last known loss."""

    def __post_init__(self) -> None:
        for name, choices in (("scheme", Scheme), ("trigger", Trigger), ("replacements", Replacements)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} = {getattr(self, name)!r} is none of {', '.join(get_args(choices))}")
        check_alpha(self.alpha)
        check_share("beta", self.beta)
        check_share("delta", self.delta)
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma = {self.gamma} must be above 0 and at most 1")
        if self.scheme == "best-set" and self.trigger != "absolute":
            raise ValueError("trigger = signed goes with scheme = base: best-set looks at the sign by itself")

    @property
    def label(self) -> str:
        """As `dynamic-best-set-a25000-b0.7`, with what differs from the defaults after it."""
        label = f"dynamic-{self.scheme}-a{self.alpha}-b{self.beta:g}"
        if self.gamma != 1:
            label += f"-g{self.gamma:g}"
        if self.delta != 0.01:
            label += f"-d{self.delta:g}"
        if self.replacements != "uniform":
            label += f"-{self.replacements}"
        return label + ("-signed" if self.trigger == "signed" else "")

    def subset_size(self, n_pool: int) -> int:
        """Of `alpha`; the largest replacement must fit into the rest of the pool."""
        size = count_of(self.alpha, n_pool)
        replaced = round(self.beta * size)
        if replaced > n_pool - size:
            raise ValueError(
                f"alpha = {self.alpha} and beta = {self.beta} replace {replaced} of {size} images, but only "
                f"{n_pool - size} of the pool of {n_pool} are outside the subset: lower alpha or beta"
            )
        return size

    def build(self, n_pool: int, generator: Generator, epochs: int) -> "DynamicTraining":
        """Draw the first subset, uniformly without replacement."""
        return DynamicTraining(self, n_pool, generator)


class _Ahead(NamedTuple):
    """What was drawn before it was needed, and the generator's states before and after that."""

    before: Any
    orders: tuple[Indices, Indices]
    after: Any


class DynamicTraining(Strategy):
    """Dynamic Training over one pool (paper a, section 3, figures 4 to 7, equations 1 to 3).

    The subset A keeps its size, and A and B = pool \\ A partition the pool. At the end of epoch n, round(beta_n |A|) images
    (nearest integer, halves to even) are replaced. There is no resampling after the first epoch, which has no accuracy before it.
    """

    _saved = ("current", "best", "best_accuracy", "previous_accuracy", "epoch", "scores")

    def __init__(self, parameters: Dynamic, n_pool: int, generator: Generator) -> None:
        super().__init__(parameters, n_pool, generator)
        self._parameters = parameters
        self._current = np.sort(generator.permutation(n_pool)[: parameters.subset_size(n_pool)])
        self._best = self._current
        self._best_accuracy = -np.inf
        self._previous_accuracy = np.nan  # no change from it is below or above anything
        self._epoch = 0
        # Of each image of the pool, as last known: what its chance to replace another is in proportion to. NaN: never trained.
        self._scores = np.full(0 if parameters.replacements == "uniform" else n_pool, np.nan, dtype=np.float32)
        self._ahead: _Ahead | None = None

    def subset(self) -> Indices:
        """The subset A."""
        return self._current

    def look_ahead(self) -> None:
        """Draw the orders of a resampling, most of what it takes; the generator stays where it is."""
        bit_generator = self._generator.bit_generator
        before = bit_generator.state
        if self._ahead is not None and _are_equal(self._ahead.before, before):
            return
        self._ahead = _Ahead(before, self._draw_orders(), bit_generator.state)
        bit_generator.state = before

    def update(self, outcome: Outcome) -> Resampling:
        """Resample A if the scheme says so (paper a, figure 4)."""
        accuracy = float(outcome.accuracy)
        if self._parameters.replacements == "ambiguous":
            self._scores[self._current] = 1 - needed(outcome.margins, "margins", self._current)
        elif self._parameters.replacements == "hard":
            self._scores[self._current] = needed(outcome.losses, "losses", self._current)
        self._epoch += 1
        if accuracy > self._best_accuracy:
            self._best, self._best_accuracy = self._current, accuracy
        previous, self._previous_accuracy = self._previous_accuracy, accuracy
        beta = self._parameters.beta * self._parameters.gamma**self._epoch
        # Accuracies are counts over counts: without rounding, a change of exactly delta would fall on either side of it.
        kind = self._decide(round(accuracy - previous, 9))
        if kind == "none":
            return Resampling(beta=beta)
        replaced = round(beta * len(self._current))
        self._current = self._replace(self._best if kind == "II" else self._current, replaced)
        return Resampling(kind, replaced, beta)

    def _decide(self, change: float) -> Literal["none", "I", "II"]:
        p = self._parameters
        if p.scheme == "base":
            return "I" if (abs(change) if p.trigger == "absolute" else change) < p.delta else "none"
        if change <= 0:
            return "I"
        return "II" if change < p.delta else "none"

    def _replace(self, old: Indices, count: int) -> Indices:
        """U(old, |old| - count) + U(pool \\ old, count): uniform without replacement (Eq. 1 and 2), or the latter by scores."""
        order_of_old, order_of_outside = self._orders()
        # Which images of the pool are in the subset: through this, sorting and differences of sets are one pass each.
        members = np.zeros(self._n_pool, dtype=np.bool_)
        members[old] = True
        outside = np.flatnonzero(~members)
        if len(self._scores):
            drawn = outside[order_of_outside]
            drawn = drawn[self._by_score(self._scores[drawn])][:count]
        else:
            drawn = outside[order_of_outside[:count]]
        members[old[order_of_old[:count]]] = False
        members[drawn] = True
        return np.flatnonzero(members)

    def _orders(self) -> tuple[Indices, Indices]:
        """Random orders of a subset and of the rest of the pool, drawn now if they were not drawn ahead."""
        ahead, self._ahead = self._ahead, None
        bit_generator = self._generator.bit_generator
        if ahead is None or not _are_equal(ahead.before, bit_generator.state):
            return self._draw_orders()  # another state was loaded since, or drawn from
        bit_generator.state = ahead.after
        return ahead.orders

    def _draw_orders(self) -> tuple[Indices, Indices]:
        size = len(self._current)
        return self._generator.permutation(size), self._generator.permutation(self._n_pool - size)

    def _by_score(self, scores: Scores) -> Indices:
        """An order of images: those without a score first, as they come, then a weighted draw without replacement."""
        # Gumbel's trick: the k largest of log(score) + noise are k draws, each in proportion to what is left (Efraimidis and
        # Spirakis 2006 in another form). A score of 0, or one that is not finite, has the least chance, but one.
        known = np.where(np.isfinite(scores), np.maximum(scores, LEAST_SCORE), LEAST_SCORE).astype(np.float64)
        keys = np.log(known) + self._generator.gumbel(size=len(scores))
        keys[np.isnan(scores)] = np.inf
        return np.argsort(-keys, kind="stable")


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two states of a generator are: numbers and texts, in some generators arrays, in dictionaries."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)
