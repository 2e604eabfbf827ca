"""The sampler in a plain DataLoader: what a loop sees is what the strategy says, and nothing else moves."""

import itertools
import re
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pydyn.errors import RunError
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch
from pydyn.training.sampler import DynamicSubsetSampler

LIBRARY = Path(__file__).parents[2] / "docs" / "library.md"
N_POOL, EPOCHS = 60, 6
STRATEGIES = [
    Full(),
    Fixed(alpha=0.3),
    Fresh(alpha=0.3),
    InfoBatch(),
    Dynamic(alpha=0.3),
    Dynamic(alpha=0.3, replacements="ambiguous"),
    Dynamic(alpha=0.3, scheme="best-set", delta=0.9, replacements="hard"),
]


def sampler_of(strategy, seed=0):
    return DynamicSubsetSampler(strategy, N_POOL, epochs=EPOCHS, seed=seed)


def end_epoch(sampler, accuracy=0.5, number=1):
    """With other scores of an image after each epoch."""
    scores = np.array([image * number % 7 / 7 for image in sampler], np.float32)
    return sampler.update(accuracy, losses=scores, margins=scores)


def epochs_of(sampler, count=EPOCHS):
    """What `count` epochs train on, in order."""
    found = []
    for number in range(1, count + 1):
        found.append(list(sampler))
        end_epoch(sampler, number=number)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_a_dataloader_sees_each_image_of_the_subset_once(strategy):
    sampler = sampler_of(strategy)
    loader = DataLoader(TensorDataset(torch.arange(N_POOL)), batch_size=7, sampler=sampler)
    for _ in range(EPOCHS):
        seen = torch.cat([batch for (batch,) in loader]).tolist()
        assert seen == list(sampler)
        assert len(seen) == len(sampler) == len(set(seen))
        assert seen != sorted(seen)
        weights = sampler.weights()
        assert weights is None or weights.shape == (len(seen),)
        end_epoch(sampler)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_a_restored_sampler_goes_on_as_the_other(strategy):
    sampler = sampler_of(strategy)
    epochs_of(sampler, 3)
    buffer = BytesIO()
    torch.save(sampler.state_dict(), buffer)
    buffer.seek(0)
    restored = sampler_of(strategy, seed=9)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    assert epochs_of(restored, 3) == epochs_of(sampler, 3)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_a_state_in_memory_is_of_when_it_was_taken(strategy):
    sampler = sampler_of(strategy)
    epochs_of(sampler, 2)
    state = sampler.state_dict()
    first = epochs_of(sampler, 4)
    for _ in range(2):  # loaded, it is not used up
        sampler.load_state_dict(state)
        assert epochs_of(sampler, 4) == first


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_two_samplers_of_one_state_do_not_disturb_each_other(strategy):
    begun = sampler_of(strategy)
    epochs_of(begun, 2)
    state, alone = begun.state_dict(), epochs_of(begun, 4)
    one, two = sampler_of(strategy, seed=8), sampler_of(strategy, seed=9)
    one.load_state_dict(state)
    two.load_state_dict(state)
    for number, epoch in enumerate(alone, 1):
        assert list(one) == list(two) == epoch
        two.update(0.5, losses=np.ones(len(two)), margins=np.ones(len(two)))  # of which the other must not hear
        assert list(one) == epoch
        end_epoch(one, number=number)
        two.load_state_dict(one.state_dict())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_a_state_of_another_strategy_or_pool_is_refused_and_changes_nothing(strategy):
    sampler, untouched = sampler_of(strategy), sampler_of(strategy)
    for other in STRATEGIES:
        if other != strategy:
            with pytest.raises(RunError, match=r"state of a strategy: .* = .*, allowed is "):
                sampler.load_state_dict(sampler_of(other, seed=9).state_dict())
    larger = DynamicSubsetSampler(strategy, 100, epochs=EPOCHS, seed=9)
    with pytest.raises(RunError, match="n_pool = 100, allowed is 60"):
        sampler.load_state_dict(larger.state_dict())
    with pytest.raises(RunError, match="not a sampler's state: it has 'epoch', 'model', needed are 'epoch', 'seed'"):
        sampler.load_state_dict({"epoch": 3, "model": {}})
    assert epochs_of(sampler) == epochs_of(untouched)


@pytest.mark.parametrize(
    ("mine", "other", "name"),
    [
        (Dynamic(alpha=0.3), Full(), "name = 'full', allowed is 'dynamic'"),
        (Dynamic(alpha=0.3), Dynamic(alpha=0.3, beta=0.7000001), "beta = 0.7000001, allowed is 0.7"),
        (Dynamic(alpha=0.3, gamma=0.9), Dynamic(alpha=0.3), "gamma = 1.0, allowed is 0.9"),
        (InfoBatch(), InfoBatch(ratio=0.50000001), "ratio = 0.50000001, allowed is 0.5"),
    ],
)
def test_a_state_of_other_parameters_is_refused_though_the_label_is_the_same(mine, other, name):
    with pytest.raises(RunError, match=f"state of a strategy: {name}"):
        sampler_of(mine).load_state_dict(sampler_of(other).state_dict())


def test_a_state_of_another_number_of_epochs_is_refused_where_these_count():
    for strategy in STRATEGIES:
        longer = DynamicSubsetSampler(strategy, N_POOL, epochs=EPOCHS + 1, seed=0)
        if isinstance(strategy, InfoBatch):
            with pytest.raises(RunError, match="epochs = 6, allowed is 7"):
                longer.load_state_dict(sampler_of(strategy).state_dict())
        else:
            longer.load_state_dict(sampler_of(strategy).state_dict())


def wrong_states(state):
    """By what is wrong: states that are no sampler's, or no longer."""
    yield "nothing", None
    yield "a list", [state]
    for name in state:
        yield f"no {name}", {key: value for key, value in state.items() if key != name}
    yield "epoch 0", {**state, "epoch": 0}
    yield "a share of an epoch", {**state, "epoch": 1.5}
    yield "a seed in words", {**state, "seed": "three"}
    strategy = state["strategy"]
    yield "a list for a strategy", {**state, "strategy": [1]}
    yield "another strategy's array", {**state, "strategy": {**strategy, "more": torch.zeros(3)}}
    for name, value in strategy.items():
        yield f"no {name} of the strategy", {**state, "strategy": _without(strategy, name)}
        wrong = [None] if not isinstance(value, torch.Tensor) else [None, 1, value[None], value.half(), value.tolist()]
        if isinstance(value, torch.Tensor) and len(value):
            wrong.append(torch.cat([value, value]))
            if not value.is_floating_point():
                wrong += [torch.cat([value[:-1], torch.tensor([end])]) for end in (-1, N_POOL, int(value[0]))]
        for number, other in enumerate(wrong):
            yield f"{name} of the strategy, {number}", {**state, "strategy": {**strategy, name: other}}
    for name in ("bit_generator", "state"):
        generator = _without(strategy["generator"], name)
        yield f"no {name} of the generator", {**state, "strategy": {**strategy, "generator": generator}}


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_a_wrong_state_is_refused_and_changes_nothing(strategy):
    begun = sampler_of(strategy, seed=9)
    epochs_of(begun, 3)
    sampler, untouched = sampler_of(strategy), sampler_of(strategy)
    for wrong, state in wrong_states(begun.state_dict()):
        try:
            sampler.load_state_dict(state)
        except RunError:
            continue
        pytest.fail(f"accepted: {wrong}")
    assert epochs_of(sampler) == epochs_of(untouched)


def test_two_samplers_side_by_side_do_not_disturb_each_other_or_the_global_generators(global_generators):
    alone = epochs_of(sampler_of(Dynamic(alpha=0.3), seed=1))
    before = global_generators()
    one, two = sampler_of(Dynamic(alpha=0.3), seed=1), sampler_of(InfoBatch(), seed=2)
    found = []
    for _ in range(EPOCHS):
        # Turn by turn, as two loops in one process would draw.
        found.append([a for a, _ in zip_longest(one, two) if a is not None])
        end_epoch(two)
        end_epoch(one)
    assert found == alone
    assert global_generators() == before


def test_processes_share_an_epoch_out_as_the_documentation_has_it():
    (recipe,) = re.findall(r"`sampler=(list\(itertools\.islice.*)`", LIBRARY.read_text())
    samplers = [sampler_of(Dynamic(alpha=0.4, delta=1.0), seed=3) for _ in range(5)]
    for _ in range(EPOCHS):
        shares = [
            eval(recipe, {"itertools": itertools, "sampler": sampler, "rank": rank, "n": 5})
            for rank, sampler in enumerate(samplers)
        ]
        # Of 24 images, four each.
        assert [len(share) for share in shares] == [4] * 5
        assert len(set().union(*shares)) == 20
        assert set().union(*shares) <= set(samplers[0])
        for sampler in samplers:
            end_epoch(sampler)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_other_defaults_of_torch_change_nothing(strategy, other_defaults):
    with other_defaults():
        within = epochs_of(sampler_of(strategy))
    assert within == epochs_of(sampler_of(strategy))


def test_scores_reach_the_images_they_are_of():
    sampler = sampler_of(InfoBatch(ratio=0.9, anneal=0.0))
    easy = {3, 14, 15, 9, 26, 5}
    for _ in range(3):
        sampler.update(0.5, losses=[0.1 if image in easy else 1.0 for image in sampler])
        kept = list(sampler)
        assert set(range(N_POOL)) - set(kept) <= easy
        assert sampler.weights().tolist() == [pytest.approx(10) if image in easy else 1 for image in kept]
    assert len(sampler) < N_POOL


@pytest.mark.parametrize(
    ("strategy", "outcome", "message"),
    [
        (Full(), {"accuracy": 84.5}, "accuracy = 84.5 must be in 0 to 1, not in percent"),
        (InfoBatch(), {"accuracy": 0.5}, "outcome.losses: one is needed for each of the 60 images"),
        (
            InfoBatch(),
            {"accuracy": 0.5, "losses": [1.0]},
            r"scores of shape \(1,\): .* for each of .* 60 images; .* drop_last",
        ),
    ],
)
def test_wrong_outcomes_are_named(strategy, outcome, message):
    with pytest.raises(ValueError, match=message):
        sampler_of(strategy).update(**outcome)


@pytest.mark.parametrize("accuracy", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5), torch.tensor(0.5).double()])
def test_an_accuracy_of_another_type_leaves_a_state_that_loads(accuracy):
    sampler, plain = sampler_of(Dynamic(alpha=0.3)), sampler_of(Dynamic(alpha=0.3))
    for _ in range(2):
        sampler.update(accuracy)
        plain.update(0.5)
    buffer = BytesIO()
    torch.save(sampler.state_dict(), buffer)
    buffer.seek(0)
    restored = sampler_of(Dynamic(alpha=0.3), seed=9)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    assert epochs_of(restored, 3) == epochs_of(plain, 3)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label)
def test_numbers_of_numpy_leave_a_state_that_loads(strategy):
    sampler = DynamicSubsetSampler(strategy, np.int64(N_POOL), epochs=np.int32(EPOCHS), seed=np.uint8(3))
    buffer = BytesIO()
    torch.save(sampler.state_dict(), buffer)
    buffer.seek(0)
    restored = sampler_of(strategy)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    assert epochs_of(restored) == epochs_of(sampler) == epochs_of(sampler_of(strategy, seed=3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed = -1 must be a whole number of at least 0"),
        ({"seed": None}, "seed = None must be a whole number of at least 0"),
        ({"n_pool": 0}, "n_pool = 0 must be a whole number of at least 1"),
        ({"n_pool": 60.0}, "n_pool = 60.0 must be a whole number of at least 1"),
        ({"epochs": 0}, "epochs = 0 must be a whole number of at least 1"),
        ({"epochs": None}, "epochs = None must be a whole number of at least 1"),
    ],
)
def test_numbers_whose_states_would_not_load_are_refused_at_once(given, message):
    with pytest.raises(ValueError, match=message):
        DynamicSubsetSampler(InfoBatch(), **{"n_pool": N_POOL, "epochs": EPOCHS, "seed": 0} | given)


def test_parameters_of_numpy_leave_a_state_that_loads():
    buffer = BytesIO()
    torch.save(sampler_of(Dynamic(alpha=np.float64(0.25), beta=np.float32(0.5))).state_dict(), buffer)
    buffer.seek(0)
    sampler_of(Dynamic(alpha=0.25, beta=0.5)).load_state_dict(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize(
    "scores",
    [torch.ones(N_POOL, requires_grad=True), torch.ones(N_POOL, dtype=torch.bfloat16), torch.ones(N_POOL).double()],
    ids=["with a gradient", "bfloat16", "float64"],
)
def test_scores_may_be_tensors_as_training_leaves_them(scores):
    sampler, plain = sampler_of(InfoBatch()), sampler_of(InfoBatch())
    sampler.update(0.5, losses=scores, margins=scores)
    plain.update(0.5, losses=np.ones(N_POOL))
    assert list(sampler) == list(plain)


@pytest.mark.parametrize(("replacements", "name"), [("hard", "losses"), ("ambiguous", "margins")])
def test_an_update_without_the_scores_it_needs_changes_nothing(replacements, name):
    strategy = Dynamic(alpha=0.3, gamma=0.5, delta=1.0, replacements=replacements)
    sampler, untouched = sampler_of(strategy), sampler_of(strategy)
    with pytest.raises(ValueError, match=f"outcome.{name}: one is needed"):
        sampler.update(0.5)
    assert end_epoch(sampler) == end_epoch(untouched)
    assert epochs_of(sampler) == epochs_of(untouched)


def test_a_subset_that_does_not_fit_is_refused_at_once():
    with pytest.raises(ValueError, match="alpha = 61 is 61 images, allowed is 1 to 60"):
        sampler_of(Fixed(alpha=61))
