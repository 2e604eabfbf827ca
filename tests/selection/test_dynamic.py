"""Dynamic Training as specified: sizes, partitions, types of resampling, decay, determinism."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.strategy import Outcome

accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@st.composite
def settings(draw):
    n_pool = draw(st.integers(2, 200))
    size = draw(st.integers(2, n_pool))
    most = min(1.0, (n_pool - size) / size)
    beta = draw(st.floats(0, most).filter(lambda beta: round(beta * size) <= n_pool - size))
    dynamic = Dynamic(
        scheme=draw(st.sampled_from(["base", "best-set"])),
        alpha=size,
        beta=beta,
        gamma=draw(st.floats(0.5, 1)),
        delta=draw(st.floats(0, 0.5)),
    )
    return dynamic, n_pool


def generator(seed=0):
    return np.random.default_rng(seed)


@given(settings(), accuracies, st.integers(0, 5))
def test_every_subset_has_alpha_distinct_images_of_the_pool_and_exactly_the_replaced_are_new(setting, outcomes, seed):
    dynamic, n_pool = setting
    strategy = dynamic.build(n_pool, generator(seed), 30)
    best, best_accuracy = strategy.subset(), -1.0
    for epoch, accuracy in enumerate(outcomes, start=1):
        before = strategy.subset()
        if accuracy > best_accuracy:
            best, best_accuracy = before, accuracy
        resampling = strategy.update(Outcome(accuracy))
        after = strategy.subset()
        assert len(after) == dynamic.alpha == len(np.unique(after))
        assert after.min() >= 0
        assert after.max() < n_pool
        assert resampling.beta == dynamic.beta * dynamic.gamma**epoch
        if resampling.kind == "none":
            assert np.array_equal(after, before)
        else:
            old = best if resampling.kind == "II" else before
            assert resampling.replaced == round(resampling.beta * dynamic.alpha)
            assert len(np.setdiff1d(after, old)) == resampling.replaced


@given(settings(), accuracies)
def test_equal_seeds_give_equal_subsets_and_a_restored_state_goes_on_the_same(setting, outcomes):
    dynamic, n_pool = setting
    one, two = dynamic.build(n_pool, generator(7), 30), dynamic.build(n_pool, generator(7), 30)
    for accuracy in outcomes:
        one.update(Outcome(accuracy))
        two.update(Outcome(accuracy))
        assert np.array_equal(one.subset(), two.subset())
        restored = dynamic.build(n_pool, generator(99), 30)
        restored.load_state_dict(two.state_dict())
        two = restored


def test_no_draw_touches_the_global_generator():
    np.random.seed(3)  # noqa: NPY002 (the state that must not move)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    strategy = Dynamic(alpha=5, beta=0.5).build(20, generator(), 30)
    for _ in range(5):
        strategy.update(Outcome(0.5))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# Accuracy after each of six epochs, and what each scheme does about it, worked by hand (delta = 0.01). Epoch 1 has none
# before it. Changes after that: +0.1, +0.005, -0.02, -0.005, +0.1.
TRACE = [0.30, 0.40, 0.405, 0.385, 0.380, 0.480]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"scheme": "base"}, ["none", "none", "I", "none", "I", "none"]),
        ({"scheme": "base", "trigger": "signed"}, ["none", "none", "I", "I", "I", "none"]),
        ({"scheme": "best-set"}, ["none", "none", "II", "I", "I", "none"]),
    ],
)
def test_six_epochs_by_hand(parameters, expected):
    strategy = Dynamic(alpha=10, beta=0.4, **parameters).build(30, generator(), 30)
    assert [strategy.update(Outcome(accuracy)).kind for accuracy in TRACE] == expected


@pytest.mark.parametrize("before", range(100))
def test_a_change_of_exactly_delta_is_not_below_it_whatever_the_floats_say(before):
    strategy = Dynamic(alpha=5, beta=0.4, delta=0.01).build(20, generator(), 30)
    strategy.update(Outcome(before / 100))
    assert strategy.update(Outcome((before + 1) / 100)).kind == "none"


def test_type_two_starts_from_the_best_subset_and_not_from_the_current_one():
    strategy = Dynamic(scheme="best-set", alpha=10, beta=0.3, delta=0.5).build(40, generator(), 30)
    best = strategy.subset()
    strategy.update(Outcome(0.9))  # the best so far, nothing before it
    strategy.update(Outcome(0.1))  # worse: type I
    current = strategy.subset()
    resampling = strategy.update(Outcome(0.2))  # better than before by less than delta: type II from the best
    after = strategy.subset()
    assert resampling.kind == "II"
    assert len(np.intersect1d(after, best)) == 7
    assert not np.array_equal(np.sort(current), after)


def test_an_equal_accuracy_is_no_gain():
    strategy = Dynamic(scheme="best-set", alpha=5, beta=0.4).build(20, generator(), 30)
    strategy.update(Outcome(0.5))
    assert strategy.update(Outcome(0.5)).kind == "I"


def test_the_whole_pool_in_order_and_a_fixed_subset_that_stays():
    assert np.array_equal(Full().build(6, generator(), 30).subset(), np.arange(6))
    fixed = Fixed(alpha=0.5).build(9, generator(), 30)
    first = fixed.subset()
    fixed.update(Outcome(0.1))
    assert len(first) == round(4.5) == 4  # halves to even
    assert np.array_equal(first, fixed.subset())


def test_the_first_subset_is_uniform():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[Fixed(alpha=3).build(10, generator(seed), 30).subset()] += 1
    # 600 expected of each; a binomial's standard deviation is 20.5.
    assert np.abs(counts - 600).max() < 5 * 20.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta": 1.2}, "beta = 1.2 must be in [0, 1]"),
        ({"beta": -0.1}, "beta = -0.1 must be in [0, 1]"),
        ({"delta": 2.0}, "delta = 2.0 must be in [0, 1]"),
        ({"gamma": 0.0}, "gamma = 0.0 must be above 0"),
        ({"alpha": 0}, "at least 2"),
        ({"alpha": 1}, "write the whole pool as 1.0"),
        ({"alpha": float("nan")}, "above 0 and at most 1"),
        ({"alpha": 1.5}, "at most 1"),
        ({"alpha": True}, "must be a count"),
        ({"scheme": "best-set", "trigger": "signed"}, "goes with scheme = base"),
    ],
)
def test_wrong_parameters_are_refused_by_name_and_value(parameters, message):
    with pytest.raises(ValueError) as error:
        Dynamic(**parameters)
    assert message in str(error.value)


def test_a_subset_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"alpha = 60 is 60 images, allowed is 1 to 50"):
        Fixed(alpha=60).build(50, generator(), 30)
    with pytest.raises(ValueError, match="only 10 of the pool of 50"):
        Dynamic(alpha=40, beta=0.5).build(50, generator(), 30)
