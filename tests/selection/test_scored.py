"""Strategies that use scores, and fresh subsets: what they promise, over pools, seeds and outcomes."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch
from pydyn.selection.registry import STRATEGIES, from_dict
from pydyn.selection.strategy import Outcome

ALL = [
    {"name": "full"},
    {"name": "fixed", "alpha": 0.4},
    {"name": "fresh", "alpha": 0.4},
    {"name": "infobatch"},
    {"name": "dynamic", "alpha": 0.4, "beta": 0.5},
    {"name": "dynamic", "scheme": "best-set", "alpha": 0.4, "beta": 0.5, "replacements": "ambiguous"},
    {"name": "dynamic", "alpha": 0.4, "beta": 0.5, "replacements": "hard"},
]


def outcome_of(strategy, accuracy, noise):
    n = len(strategy.subset())
    return Outcome(accuracy, noise.random(n, dtype=np.float32), noise.random(n, dtype=np.float32))


def test_every_strategy_is_in_the_list_above():
    assert {declared["name"] for declared in ALL} == set(STRATEGIES)


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: from_dict(declared).label)
@given(n_pool=st.integers(5, 60), seed=st.integers(0, 3), epochs=st.integers(2, 12), cut=st.integers(0, 11))
def test_subsets_are_distinct_and_a_restored_state_goes_on_the_same(declared, n_pool, seed, epochs, cut):
    parameters = from_dict(declared)
    one = parameters.build(n_pool, np.random.default_rng(seed), epochs)
    two = parameters.build(n_pool, np.random.default_rng(seed), epochs)
    noise_one, noise_two = np.random.default_rng(5), np.random.default_rng(5)
    for epoch in range(epochs):
        subset, weights = one.subset(), one.weights()
        assert subset.dtype == np.int64
        assert np.array_equal(subset, np.unique(subset))
        assert subset[0] >= 0
        assert subset[-1] < n_pool
        assert 0 < len(subset) <= parameters.subset_size(n_pool)
        assert np.array_equal(subset, two.subset())
        assert weights is None or (weights.shape == subset.shape and np.array_equal(weights, two.weights()))
        accuracy = (epoch % 3) / 300  # sometimes stalls, sometimes falls
        one.update(outcome_of(one, accuracy, noise_one))
        two.update(outcome_of(two, accuracy, noise_two))
        if epoch == cut:
            restored = parameters.build(n_pool, np.random.default_rng(99), epochs)
            restored.load_state_dict(two.state_dict())
            two = restored


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: from_dict(declared).label)
def test_no_draw_touches_a_global_generator(declared, global_generators):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 (the states that must not move)
    torch.manual_seed(3)
    before = global_generators()
    strategy, noise = from_dict(declared).build(20, np.random.default_rng(0), 6), np.random.default_rng(5)
    for _ in range(5):
        strategy.update(outcome_of(strategy, 0.5, noise))
    assert global_generators() == before


@given(n_pool=st.integers(2, 50), size=st.integers(2, 50), epochs=st.integers(1, 30))
def test_fresh_subsets_walk_through_the_pool(n_pool, size, epochs):
    size = min(size, n_pool)
    strategy = Fresh(alpha=size).build(n_pool, np.random.default_rng(1), epochs)
    counts = np.zeros(n_pool, dtype=int)
    for _ in range(epochs):
        assert len(strategy.subset()) == size
        counts[strategy.subset()] += 1
        assert counts.max() - counts.min() <= 1
        strategy.update(Outcome(0.5))


@pytest.mark.parametrize("ratio", [0.5, 0.2])
def test_infobatch_keeps_hard_images_drops_a_part_of_the_easy_ones_and_weighs_what_stays(ratio):
    n_pool, epochs = 10_000, 8
    strategy = InfoBatch(ratio=ratio).build(n_pool, np.random.default_rng(0), epochs)
    assert np.array_equal(strategy.subset(), np.arange(n_pool))
    losses = np.where(np.arange(n_pool) < 6000, 0.1, 1.0).astype(np.float32)  # mean 0.46
    for epoch in range(1, epochs):
        strategy.update(Outcome(0.5, losses[strategy.subset()]))
        subset, weights = strategy.subset(), strategy.weights()
        if epoch + 1 <= 7:  # of 8, an eighth is annealed
            assert np.isin(np.arange(6000, n_pool), subset).all()
            # Of a standard deviation of 39 at most.
            assert abs((subset < 6000).sum() - 6000 * (1 - ratio)) < 200
            assert np.array_equal(weights, np.where(subset < 6000, np.float32(1 / (1 - ratio)), 1))
        else:
            assert np.array_equal(subset, np.arange(n_pool))
            assert (weights == 1).all()


@pytest.mark.parametrize(
    ("anneal", "epochs", "annealed"),
    [
        (0.125, 200, 25),
        (0.125, 20, 3),
        (0.125, 4, 1),
        (0.125, 3, 1),
        (0.07, 100, 7),  # whose product is above 7 by a rounding
        (0.8, 10, 8),  # and 1 - 0.8 is below 0.2 by one
        (0.0, 10, 0),
        (1.0, 10, 10),
    ],
)
def test_infobatch_prunes_as_long_as_its_authors_code(anneal, epochs, annealed):
    strategy = InfoBatch(ratio=0.5, anneal=anneal).build(1000, np.random.default_rng(0), epochs)
    pruned = []
    for epoch in range(1, epochs + 1):
        subset = strategy.subset()
        if len(subset) < 1000:
            pruned.append(epoch)
        strategy.update(Outcome(0.5, np.where(subset < 600, 0.1, 1.0).astype(np.float32)))
    # Never before a loss is known.
    assert pruned == list(range(2, epochs - annealed + 1))


def test_an_infobatch_score_is_the_loss_of_when_the_image_was_last_trained():
    strategy = InfoBatch(ratio=0.5, anneal=0.0).build(4, np.random.default_rng(0), 50)
    losses = np.array([0, 1, 1, 1], np.float32)
    strategy.update(Outcome(0.5, losses))
    for _ in range(30):  # image 0 is easy as long as it is left out, whatever its loss would be now
        if 0 in strategy.subset():
            break
        strategy.update(Outcome(0.5, losses[strategy.subset()]))
    assert strategy.weights()[strategy.subset() == 0] == 2
    strategy.update(Outcome(0.5, np.where(strategy.subset() == 0, 9, 1).astype(np.float32)))
    # Now it is the hard one: kept, with weight 1, and the others are below the mean.
    assert strategy.weights()[strategy.subset() == 0] == 1
    assert (strategy.weights()[strategy.subset() != 0] == 2).all()


def test_infobatch_compares_with_the_mean_of_all_last_losses():
    for seed in range(20):
        strategy = InfoBatch(ratio=0.5, anneal=0.0).build(1000, np.random.default_rng(seed), 50)
        strategy.update(Outcome(0.5, np.where(np.arange(1000) < 500, 0.1, 1.0).astype(np.float32)))
        # Of all images the mean falls to 0.35, of those that were trained, half of the easy ones less, to some 0.43.
        losses = np.where(np.arange(1000) < 500, 0.1, 0.6).astype(np.float32)
        losses[999] = 0.4
        strategy.update(Outcome(0.5, losses[strategy.subset()]))
        assert strategy.weights()[strategy.subset() == 999].tolist() == [1]


@pytest.mark.parametrize(("replacements", "score"), [("ambiguous", "margins"), ("hard", "losses")])
def test_guided_replacements_take_unseen_images_first_then_by_score(replacements, score):
    # A pool of 4 with a subset of 2, all of which is replaced every epoch: after one replacement everything has been seen.
    n, chosen = 3000, np.zeros(4)
    for seed in range(n):
        dynamic = Dynamic(alpha=1 + 1, beta=0.5, delta=1.0, replacements=replacements)
        strategy = dynamic.build(4, np.random.default_rng(seed), 30)
        values = np.array([0.9, 0.6, 0.3, 0.1], np.float32)  # ambiguity or loss of images 0 to 3

        def outcome(strategy=strategy, values=values):
            scores = values[strategy.subset()]
            return Outcome(0.5, **{score: 1 - scores if score == "margins" else scores})

        first = set(strategy.subset())
        seen = set(first)
        strategy.update(outcome())  # no accuracy before it: nothing replaced
        while len(seen) < 4:
            before = set(strategy.subset())
            strategy.update(outcome())
            new = set(strategy.subset()) - before
            assert len(new) == 1
            assert not new & seen, "an image that was trained came before one that never was"
            seen |= new
        outside = np.setdiff1d(np.arange(4), strategy.subset())
        before = set(strategy.subset())
        strategy.update(outcome())
        (new,) = set(strategy.subset()) - before
        # Among two images of scores a and b the first has the chance a / (a + b).
        chosen[0] += new == outside[0]
        chosen[1] += values[outside[0]] / values[outside].sum()
        chosen[2] += (p := values[outside[0]] / values[outside].sum()) * (1 - p)
    assert abs(chosen[0] - chosen[1]) < 4 * np.sqrt(chosen[2])


def test_images_without_ambiguity_keep_an_equal_chance_and_lose_to_any_that_has_some():
    drawn = {0.0: 0, 0.5: 0}
    for other in drawn:
        for seed in range(400):
            strategy = Dynamic(alpha=2, beta=0.5, delta=1.0, replacements="ambiguous").build(
                4, np.random.default_rng(seed), 9
            )
            ambiguity = np.array([0, other, 0, other], np.float32)
            while True:  # until all were trained and one of each kind is outside
                strategy.update(Outcome(0.5, margins=1 - ambiguity[strategy.subset()]))
                outside = np.setdiff1d(np.arange(4), strategy.subset())
                if not np.isnan(strategy.state_dict()["scores"]).any() and outside.sum() % 2 == 1:
                    break
            before = set(strategy.subset())
            strategy.update(Outcome(0.5, margins=1 - ambiguity[strategy.subset()]))
            (new,) = set(strategy.subset()) - before
            drawn[other] += int(new % 2)
    # 200 of 400 expected, standard deviation 10; and with ambiguity only one image in half a million would lose.
    assert abs(drawn[0.0] - 200) < 50
    assert drawn[0.5] == 400


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ({"name": "infobatch"}, "losses"),
        ({"name": "dynamic", "alpha": 2, "replacements": "hard"}, "losses"),
        ({"name": "dynamic", "alpha": 2, "replacements": "ambiguous"}, "margins"),
    ],
)
def test_missing_scores_are_named(declared, name):
    strategy = from_dict(declared).build(9, np.random.default_rng(0), 9)
    with pytest.raises(ValueError, match=f"outcome.{name}: one is needed for each of the"):
        strategy.update(Outcome(0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Outcome(84.5), "accuracy = 84.5 must be in 0 to 1, not in percent"),
        (lambda: Outcome(float("nan")), "accuracy = nan must be in 0 to 1"),
        (lambda: InfoBatch(ratio=1.0), "ratio = 1.0 must be at least 0 and below 1"),
        (lambda: InfoBatch(anneal=1.5), r"anneal = 1.5 must be in \[0, 1\]"),
        (lambda: Fresh(alpha=1), "write the whole pool as 1.0"),
    ],
)
def test_wrong_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("lost", [np.inf, -np.inf])
def test_images_whose_loss_is_no_number_are_hardly_ever_drawn_again(lost):
    strategy = Dynamic(alpha=6, beta=0.5, replacements="hard").build(24, np.random.default_rng(0), 100)
    seen: set[int] = set()
    drawn = 0
    for _ in range(60):
        subset = strategy.subset()
        known, seen = len(seen) == 24, seen | set(subset.tolist())
        losses = np.where(subset % 2, 1, lost).astype(np.float32)
        strategy.update(Outcome(0.5, losses))
        new = np.setdiff1d(strategy.subset(), subset)
        if known:  # before, unseen ones come first
            assert (new % 2 == 1).all()
            drawn += len(new)
    assert drawn > 100
