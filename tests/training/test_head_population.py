"""Heads as populations: the gradients of plain modules, the same alone as together."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pydyn.models import heads
from pydyn.ops import reference
from pydyn.ops.extension import Extension
from pydyn.training import head_population
from pydyn.training.head_layers import evaluation_logits
from pydyn.training.head_population import Population
from tests.training.small_heads import (
    MIXTURE,
    N_CLASSES,
    N_FEATURES,
    VALIDATION,
    assert_close,
    assert_same,
    linear,
    make_data,
    make_rows,
    redesigned,
    train,
)

# Gradients


class Mask(torch.nn.Module):
    """Dropout by given draws (H, B)."""

    def __init__(self, uniforms, rate):
        super().__init__()
        self.kept = (uniforms >= rate).t() / (1 - rate)

    def forward(self, units):
        return units * self.kept


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        [linear(strength=0.0), linear(strength=2.0, power=2.0), linear(strength=1.0, power=0.5)],
        [linear(strength=2.0, threshold=0.2), linear(strength=1.0, threshold=0.2)],
        [redesigned(strength=1.0), redesigned(strength=3.0, power=1.5, dropout=0.4), redesigned(dropout=0.7)],
        [
            redesigned(label_smoothing=0.2),
            redesigned(strength=1.0, normalisation="weighted_mean"),
            redesigned(strength=2.0, normalisation="weighted_mean", dropout=0.3),
        ],
    ],
)
def test_gradients_are_those_of_plain_modules(members, weighted):
    data = make_data()
    class_weight = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
    population = Population(data, members, class_weight)
    generator = torch.Generator().manual_seed(1)
    for name, value in population.weights.items():
        value.copy_(torch.randn(value.shape, generator=generator).abs() if "var" in name else value)
        value.add_(0.3 * torch.randn(value.shape, generator=generator).abs())
    features, labels = data.features[:40], data.labels[:40]
    uniforms = torch.rand(16, 40, generator=generator) if members[0].hidden else None
    modules = []
    for member, setting in enumerate(members):
        module = heads.build(setting.kind, N_FEATURES, N_CLASSES, generator, hidden=setting.hidden)
        module.load_state_dict(
            {name: value[member].clone() for name, value in population.weights.items()}, strict=False
        )
        if uniforms is not None:
            module.dropout = Mask(uniforms, setting.dropout)
        modules.append(module)
    gradients, sums = population.gradients(features, labels, uniforms)
    for member, (setting, module) in enumerate(zip(members, modules, strict=True)):
        loss, losses, *_ = reference.ambiguity_cross_entropy(
            module(features),
            labels,
            strength=setting.strength,
            power=setting.power,
            threshold=setting.threshold,
            class_weight=class_weight,
            label_smoothing=setting.label_smoothing,
            reduction=setting.normalisation,
        )
        loss.backward()
        assert gradients.keys() == dict(module.named_parameters()).keys()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(gradients[name][member], parameter.grad, rtol=1e-4, atol=1e-6)
        for name, buffer in module.named_buffers():
            if name in population.weights:
                torch.testing.assert_close(population.weights[name][member], buffer)
        assert sums[member].item() == pytest.approx(losses.sum().item(), rel=1e-5)


def test_an_epoch_is_that_of_a_plain_loop_with_torchs_optimiser():
    """The whole of it: order, last small batch, AdamW without decay of biases and normalisation, running statistics, loss."""
    setting = redesigned(weight_decay=0.5, strength=1.5, power=2.0)
    data = make_data()
    population = Population(data, [linear_to_be_ignored := dataclasses.replace(setting, strength=9.0), setting], None)
    assert linear_to_be_ignored != setting
    module = heads.build(
        "redesigned", N_FEATURES, N_CLASSES, head_population.torch_generator(0, "initialisation"), hidden=16
    )
    decayed = [module.hidden.weight, module.output.weight]
    others = [module.norm.weight, module.norm.bias, module.output.bias]
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=1e-2, weight_decay=0.5
    )
    losses = []
    for epoch in (1, 2):
        train_loss = population.train_epoch(epoch)
        order = torch.randperm(len(data.labels), generator=head_population.torch_generator(0, "order", epoch))
        losses.clear()
        for batch in order.split(32):
            terms = reference.ambiguity_cross_entropy(
                module(data.features[batch]), data.labels[batch], strength=1.5, power=2.0
            )
            optimiser.zero_grad()
            terms[0].backward()
            optimiser.step()
            losses += terms[1].tolist()
        assert train_loss[1].item() == pytest.approx(np.mean(losses), rel=1e-5)
    for name, value in module.state_dict().items():
        if name in population.weights:
            torch.testing.assert_close(population.weights[name][1], value, rtol=1e-4, atol=1e-4)


# Alone and together


@pytest.mark.parametrize(("precision", "loss", "weight"), [("fp32", 1e-4, 1e-3), ("bf16", 1e-2, 3e-2)])
def test_a_head_trains_the_same_alone_and_in_any_company(precision, loss, weight):
    data = make_data(precision)
    together = train(MIXTURE, data, epochs=12, patience=3)
    assert {result.ending for result in together} == {"patience", "epochs"}
    for setting, result in zip(MIXTURE, together, strict=True):
        (alone,) = train([setting], data, epochs=12, patience=3)
        assert_close(result, alone, loss, weight)


@pytest.mark.parametrize("n_heads", [2, 5, 33])
def test_the_number_of_heads_does_not_matter(n_heads):
    data = make_data()
    settings = [redesigned(1e-3 * (1 + k), dropout=0.02 * k, strength=0.1 * k) for k in range(n_heads)]
    together = train(settings, data, epochs=3)
    (alone,) = train(settings[-1:], data, epochs=3)
    assert_close(together[-1], alone, 1e-4, 1e-3)


@pytest.mark.parametrize(("precision", "loss", "weight"), [("fp32", 1e-4, 1e-3), ("bf16", 1e-2, 3e-2)])
def test_what_other_devices_run_gives_the_same(precision, loss, weight, monkeypatch):
    data = make_data(precision)
    ours = train(MIXTURE, data)
    for module in ("adamw", "hidden"):
        monkeypatch.setattr(f"pydyn.ops.{module}.EXTENSION", Extension("this is another device"))
        monkeypatch.setattr(f"pydyn.ops.{module}.warn_reference", lambda: None)
    for one, other in zip(ours, train(MIXTURE, data), strict=True):
        assert_close(one, other, loss, weight)


@pytest.fixture(scope="module")
def in_order():
    return train(MIXTURE, epochs=1)


@settings(max_examples=10)
@given(st.permutations(range(len(MIXTURE))), st.integers(1, len(MIXTURE)))
def test_results_come_in_the_order_of_the_settings(in_order, order, count):
    chosen = [MIXTURE[index] for index in order[:count]]
    results = train(chosen, epochs=1)
    assert [result.setting for result in results] == chosen
    for index, result in zip(order, results, strict=False):
        assert_close(result, in_order[index], 1e-4, 1e-3)


def test_a_seed_decides_and_no_global_generator_is_touched(global_generators):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = global_generators()
    results = train([redesigned(dropout=0.5), redesigned(dropout=0.5), redesigned(dropout=0.5, seed=1)], epochs=2)
    assert global_generators() == before
    assert results[0].history == results[1].history
    assert results[0].history != results[2].history


def test_the_same_arguments_give_the_same_bits():
    options = {"epochs": 5, "patience": 2, "halving": [3], "class_weight": "balanced"}
    for one, other in zip(train(MIXTURE, **options), train(MIXTURE, **options), strict=True):
        assert_same(one, other)


def test_a_member_loads_into_a_plain_module_and_gives_the_same_logits():
    data = make_data()
    for setting in (linear(), redesigned(dropout=0.5)):
        population = Population(data, [setting, dataclasses.replace(setting, learning_rate=1e-3)], None)
        population.train_epoch(1)
        population.remember([0, 1])
        logits = evaluation_logits(population.weights, data.validation_features)
        for member in range(2):
            head = heads.from_weights(population.remembered(member))
            with torch.no_grad():
                theirs = head(make_rows()[0][VALIDATION])
            torch.testing.assert_close(logits[member], theirs, rtol=1e-4, atol=1e-5)


def test_heads_that_stay_do_not_notice_those_that_leave():
    data = make_data()
    settings = [redesigned(1e-2 / (1 + k), dropout=0.1 * k) for k in range(6)]
    halved = train(settings, data, epochs=6, halving=[2, 4])
    whole = train(settings, data, epochs=6)
    assert sum(result.ending == "epochs" for result in halved) == 2
    for one, other in zip(halved, whole, strict=True):
        for row, row_of_whole in zip(one.history, other.history, strict=False):
            assert row.validation_loss == pytest.approx(row_of_whole.validation_loss, abs=2e-4)


def test_a_head_that_diverges_takes_nobody_with_it():
    data = make_data()
    results = train([linear(), linear(3e38), linear(1e-3)], data, epochs=3)
    assert [result.ending for result in results] == ["epochs", "diverged", "epochs"]
    for setting, result in zip((linear(), linear(1e-3)), (results[0], results[2]), strict=True):
        assert_close(result, train([setting], data, epochs=3)[0], 1e-4, 1e-3)
