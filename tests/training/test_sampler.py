"""The sampler in a plain DataLoader: what a loop sees is what the strategy says, and nothing else moves."""

import re
from io import BytesIO
from itertools import zip_longest

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
            message = f"state of a strategy: strategy = {other.label!r}, allowed is {strategy.label!r}"
            with pytest.raises(RunError, match=re.escape(message)):
                sampler.load_state_dict(sampler_of(other, seed=9).state_dict())
    larger = DynamicSubsetSampler(strategy, 100, epochs=EPOCHS, seed=9)
    with pytest.raises(RunError, match="n_pool = 100, allowed is 60"):
        sampler.load_state_dict(larger.state_dict())
    with pytest.raises(RunError, match="not a sampler's state: it has 'epoch', 'model', needed are 'epoch', 'seed'"):
        sampler.load_state_dict({"epoch": 3, "model": {}})
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
        (InfoBatch(), {"accuracy": 0.5, "losses": [1.0]}, r"scores of shape \(1,\): one is needed for each of"),
    ],
)
def test_wrong_outcomes_are_named(strategy, outcome, message):
    with pytest.raises(ValueError, match=message):
        sampler_of(strategy).update(**outcome)


def test_a_subset_that_does_not_fit_is_refused_at_once():
    with pytest.raises(ValueError, match="alpha = 61 is 61 images, allowed is 1 to 60"):
        sampler_of(Fixed(alpha=61))
