"""Dynamic Training as specified: sizes, partitions, types of resampling, decay, determinism."""

import itertools
from dataclasses import fields

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
    scheme = draw(st.sampled_from(["base", "best-set"]))
    dynamic = Dynamic(
        scheme=scheme,
        trigger="absolute" if scheme == "best-set" else draw(st.sampled_from(["absolute", "signed"])),
        replacements=draw(st.sampled_from(["uniform", "ambiguous", "hard"])),
        alpha=size,
        beta=beta,
        gamma=draw(st.floats(0.5, 1)),
        delta=draw(st.floats(0, 0.5)),
    )
    return dynamic, n_pool


def generator(seed=0):
    return np.random.default_rng(seed)


def outcome(accuracy, subset, noise):
    return Outcome(accuracy, *noise.random((2, len(subset)), dtype=np.float32))


def kind_as_published(dynamic, before, accuracy):
    """Figure 4 of paper a; accuracies are counts of images over counts, which nine decimals tell apart."""
    if before is None:
        return "none"
    change = round(accuracy - before, 9)
    stalls = -dynamic.delta < change < dynamic.delta
    if dynamic.scheme == "best-set":
        return "I" if change <= 0 else "II" if stalls else "none"
    falls = dynamic.trigger == "signed" and change < 0
    return "I" if stalls or falls else "none"


@given(settings(), accuracies, st.integers(0, 5))
def test_every_subset_has_alpha_distinct_images_of_the_pool_and_exactly_the_replaced_are_new(setting, outcomes, seed):
    dynamic, n_pool = setting
    strategy, noise = dynamic.build(n_pool, generator(seed), 30), generator(seed + 100)
    best, best_accuracy, accuracy_before = strategy.subset(), -1.0, None
    for epoch, accuracy in enumerate(outcomes, start=1):
        before = strategy.subset()
        if accuracy > best_accuracy:
            best, best_accuracy = before, accuracy
        resampling = strategy.update(outcome(accuracy, before, noise))
        assert resampling.kind == kind_as_published(dynamic, accuracy_before, accuracy)
        accuracy_before = accuracy
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
    for epoch, accuracy in enumerate(outcomes):
        one.update(outcome(accuracy, one.subset(), generator(epoch)))
        two.update(outcome(accuracy, two.subset(), generator(epoch)))
        assert np.array_equal(one.subset(), two.subset())
        restored = dynamic.build(n_pool, generator(99), 30)
        restored.load_state_dict(two.state_dict())
        two = restored


@given(
    settings(),
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["nothing", "ahead", "twice", "back", "drawn from"])), max_size=20
    ),
    st.sampled_from([np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]),
)
def test_looking_ahead_changes_no_subset(setting, epochs, bits):
    dynamic, n_pool = setting
    draws, draws_ahead = np.random.Generator(bits(3)), np.random.Generator(bits(3))
    plain, ahead = dynamic.build(n_pool, draws, 30), dynamic.build(n_pool, draws_ahead, 30)
    for epoch, (accuracy, event) in enumerate(epochs):
        if event != "nothing":
            ahead.look_ahead()
        if event == "twice":
            ahead.look_ahead()
        if event == "back":  # what was drawn ahead is not of the state that is loaded
            other = dynamic.build(n_pool, np.random.Generator(bits(4)), 30)
            plain.load_state_dict(other.state_dict())
            ahead.load_state_dict(other.state_dict())
        if event == "drawn from":  # by others that share the generator
            assert draws.random() == draws_ahead.random()
        assert str(plain.state_dict()) == str(ahead.state_dict())
        plain.update(outcome(accuracy, plain.subset(), generator(epoch)))
        ahead.update(outcome(accuracy, ahead.subset(), generator(epoch)))
        assert np.array_equal(plain.subset(), ahead.subset())


def test_what_was_drawn_ahead_is_not_drawn_again():
    class Counting(np.random.Generator):
        n_drawn = 0

        def permutation(self, x, axis=0):
            self.n_drawn += 1
            return super().permutation(x, axis)

    draws = Counting(np.random.PCG64(0))
    strategy = Dynamic(alpha=20, beta=0.5, delta=1.0).build(50, draws, 30)
    strategy.update(Outcome(0.5))
    strategy.look_ahead()
    before = draws.n_drawn
    assert strategy.update(Outcome(0.5)).kind == "I"
    assert draws.n_drawn == before


# Accuracy after each of six epochs, and what each scheme does about it, worked by hand (delta = 0.01). Epoch 1 has none
# before it. Changes after that: +0.1, +0.005, -0.02, -0.005, +0.1. Of 10 images with beta = 0.4 and gamma = 0.9 a resampling
# would replace 3.6, 3.24, 2.916, 2.6244, 2.36196, 2.125764: 4, 3, 3, 3, 2, 2 images.
TRACE = [0.30, 0.40, 0.405, 0.385, 0.380, 0.480]
REPLACED = [4, 3, 3, 3, 2, 2]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"scheme": "base"}, ["none", "none", "I", "none", "I", "none"]),
        ({"scheme": "base", "trigger": "signed"}, ["none", "none", "I", "I", "I", "none"]),
        ({"scheme": "best-set"}, ["none", "none", "II", "I", "I", "none"]),
    ],
)
def test_six_epochs_by_hand(parameters, expected):
    strategy = Dynamic(alpha=10, beta=0.4, gamma=0.9, **parameters).build(30, generator(), 30)
    subsets, done = [strategy.subset()], []
    for accuracy in TRACE:
        done.append(strategy.update(Outcome(accuracy)))
        subsets.append(strategy.subset())
    assert [resampling.kind for resampling in done] == expected
    replaced = [0 if kind == "none" else count for kind, count in zip(expected, REPLACED, strict=True)]
    assert [resampling.replaced for resampling in done] == replaced
    # The best subset is the current one whenever this trace has a type II.
    assert [len(np.setdiff1d(after, before)) for before, after in itertools.pairwise(subsets)] == replaced
    betas = [0.36, 0.324, 0.2916, 0.26244, 0.236196, 0.2125764]
    assert [resampling.beta for resampling in done] == pytest.approx(betas)


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


def test_of_equally_good_subsets_the_first_is_the_best():
    for seed in range(20):
        strategy = Dynamic(scheme="best-set", alpha=5, beta=0.2).build(20, generator(seed), 30)
        first = strategy.subset()
        kinds = [strategy.update(Outcome(accuracy)).kind for accuracy in (0.5, 0.4, 0.5, 0.4, 0.405)]
        assert kinds == ["none", "I", "none", "I", "II"]
        # One of its five images was replaced.
        assert np.isin(strategy.subset(), first).sum() == 4


def test_whatever_two_of_them_differ_in_is_in_their_labels():
    other = {"scheme": "best-set", "trigger": "signed", "replacements": "hard"}
    other |= {"alpha": 0.4, "beta": 0.6, "gamma": 0.9, "delta": 0.02}
    assert other.keys() == {field.name for field in fields(Dynamic)} - {"name"}
    labels = [Dynamic().label, *(Dynamic(**{name: value}).label for name, value in other.items())]
    assert len(set(labels)) == len(labels)


def test_the_whole_pool_in_order_and_a_fixed_subset_that_stays():
    assert np.array_equal(Full().build(6, generator(), 30).subset(), np.arange(6))
    fixed = Fixed(alpha=0.5).build(9, generator(), 30)
    first = fixed.subset()
    fixed.update(Outcome(0.1))
    assert len(first) == round(4.5) == 4  # halves to even
    assert np.array_equal(first, fixed.subset())


def test_which_images_stay_and_which_replace_others_is_uniform():
    stayed, came, n = np.zeros(4), np.zeros(6), 2000
    for seed in range(n):
        strategy = Dynamic(alpha=4, beta=0.5, delta=1.0).build(10, generator(seed), 30)
        first = strategy.subset()
        assert [strategy.update(Outcome(0.5)).kind for _ in range(2)] == ["none", "I"]
        stayed += np.isin(first, strategy.subset())
        came += np.isin(np.setdiff1d(np.arange(10), first), strategy.subset())
    # Of standard deviations of 22 and 21.
    assert np.abs(stayed - n / 2).max() < 100 and np.abs(came - n / 3).max() < 100


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
        ({"scheme": "best_set"}, "scheme = 'best_set' is none of base, best-set"),
        ({"trigger": "sign"}, "trigger = 'sign' is none of absolute, signed"),
        ({"replacements": "uncertain"}, "replacements = 'uncertain' is none of uniform, ambiguous, hard"),
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
