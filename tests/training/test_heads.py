"""Heads trained at once: the gradients of plain modules, the same alone as together, stopped, halved, resumed."""

import dataclasses
import io
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch.nn.functional import cross_entropy

from pydyn.models import heads
from pydyn.models.head_setting import HeadSetting
from pydyn.ops import reference
from pydyn.ops.extension import Extension
from pydyn.training import head_population
from pydyn.training.head_data import HeadData
from pydyn.training.head_layers import evaluation_logits
from pydyn.training.head_population import Population
from pydyn.training.heads import HeadEpoch, HeadResult, HeadTraining, train_heads, winner

N_FEATURES, N_CLASSES = 20, 3


def make_rows(n_rows=360, spread=0.6, seed=0, n_classes=N_CLASSES):
    """Features around a centre for each class, off centre and of different scales, and their labels: the last class is rare."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n_rows, generator=generator) ** 1.5 * n_classes).long()
    centres = torch.randn(n_classes, N_FEATURES, generator=generator) * spread
    features = centres[labels] + torch.randn(n_rows, N_FEATURES, generator=generator)
    return features * torch.linspace(0.1, 10, N_FEATURES) + 3, labels


TRAIN, VALIDATION = torch.arange(260), torch.arange(260, 360)


def make_data(precision="fp32", **options):
    return HeadData.prepare(*make_rows(), TRAIN, VALIDATION, precision=precision, **options)


def linear(learning_rate=1e-2, **options):
    return HeadSetting("linear", learning_rate, **{"batch_size": 32, **options})


def redesigned(learning_rate=1e-2, **options):
    return HeadSetting("redesigned", learning_rate, **{"hidden": 16, "batch_size": 32, **options})


MIXTURE = [
    linear(),
    redesigned(dropout=0.5, strength=1.0, power=2.0),
    linear(1e-1, weight_decay=0.1, strength=2.0),
    redesigned(3e-2, weight_decay=0.01, label_smoothing=0.1),
    linear(1e-3, strength=1.0, threshold=0.3, normalisation="weighted_mean"),
    redesigned(1e-3, normalisation="weighted_mean", strength=4.0, power=0.5),
    linear(seed=1),
    redesigned(hidden=8, batch_size=50, dropout=0.2),
    redesigned(dropout=0.1, threshold=0.5, strength=1.0),
    linear(batch_size=64, power=3.0, strength=0.5),
]


def train(settings, data=None, *, epochs=4, **options):
    training = HeadTraining(data or make_data(), settings, epochs=epochs, **options)
    while training.running:
        training.run_epoch()
    return training.results()


def without_seconds(result: HeadResult):
    return dataclasses.replace(result, seconds=0.0, weights={})


def assert_same(one: HeadResult, other: HeadResult) -> None:
    assert without_seconds(one) == without_seconds(other)
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name


def assert_close(one: HeadResult, other: HeadResult, loss: float, weight: float) -> None:
    assert (one.setting, one.best_epoch, one.ending, len(one.history)) == (
        other.setting,
        other.best_epoch,
        other.ending,
        len(other.history),
    )
    for row, row_of_other in zip(one.history, other.history, strict=True):
        assert row.train_loss == pytest.approx(row_of_other.train_loss, abs=loss)
        assert row.validation_loss == pytest.approx(row_of_other.validation_loss, abs=loss)
        # A validation row within rounding of the boundary may fall to the other side: one of a hundred.
        assert row.validation_accuracy == pytest.approx(row_of_other.validation_accuracy, abs=0.011)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=0, atol=weight, msg=lambda text, n=name: n + text)


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


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(len(MIXTURE))), st.integers(1, len(MIXTURE)))
def test_results_come_in_the_order_of_the_settings(order, count):
    chosen = [MIXTURE[index] for index in order[:count]]
    results = train(chosen, epochs=1)
    assert [result.setting for result in results] == chosen
    for index, result in zip(order, results, strict=False):
        assert_close(result, ALONE[index], 1e-4, 1e-3)


ALONE = train(MIXTURE, epochs=1)


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


# What comes out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("standardise", [True, False])
def test_exported_heads_give_what_was_recorded(precision, standardise):
    features, labels = make_rows()
    if not standardise:
        features = (features - 3) / 5
    wanted = torch.tensor([1.0, 2.0, 0.5])
    results = train_heads(
        features,
        labels,
        TRAIN,
        VALIDATION,
        MIXTURE,
        epochs=3,
        class_weight=wanted,
        standardise=standardise,
        precision=precision,
    )
    rows, truth = features[VALIDATION], labels[VALIDATION]
    for result in results:
        for head in (result.head(), heads.fold(result.head())):
            with torch.no_grad():
                logits = head(rows)
            loss = cross_entropy(logits, truth, weight=wanted).item()
            guesses = logits.argmax(1)
            # bfloat16 keeps 8 bits of features and of the first layer.
            assert loss == pytest.approx(result.best.validation_loss, rel=1e-4 if precision == "fp32" else 3e-2)
            slack = 0.0 if precision == "fp32" else 0.021
            assert (guesses == truth).float().mean().item() == pytest.approx(
                result.best.validation_accuracy, abs=slack + 1e-6
            )
            assert balanced_accuracy_score(truth, guesses) == pytest.approx(
                result.best.balanced_accuracy, abs=0.1 * slack * 50 + 1e-6
            )


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


def test_a_linear_head_finds_what_logistic_regression_finds():
    features, labels = make_rows(n_rows=600, spread=0.3)
    train_rows, validation = torch.arange(400), torch.arange(400, 600)
    (result,) = train_heads(features, labels, train_rows, validation, [linear(3e-3)], epochs=150)
    scaled = (features - features[:400].mean(0)) / features[:400].std(0, correction=0)
    regression = LogisticRegression(C=1e6, max_iter=1000).fit(scaled[:400].numpy(), labels[:400].numpy())
    theirs = regression.predict_log_proba(scaled[:400].numpy())[np.arange(400), labels[:400].numpy()].mean()
    assert result.history[-1].train_loss == pytest.approx(-theirs, rel=0.03)


# Early stopping and halving, by hand


def scripted(monkeypatch, losses):
    """Let validation say what the test wants: losses[head][epoch], heads told apart by their learning rates 1, 2, 3, ... e-3."""
    real = Population.train_epoch
    monkeypatch.setattr(
        Population, "train_epoch", lambda self, epoch: setattr(self, "epoch", epoch) or real(self, epoch)
    )

    def evaluate(self):
        numbers = [round(setting.learning_rate / 1e-3) - 1 for setting in self.settings]
        return [(losses[number][self.epoch - 1], 0.5, 0.5) for number in numbers]

    monkeypatch.setattr(Population, "evaluate", evaluate)


def heads_by_number(count, make=linear, **options):
    return [make(1e-3 * (1 + number), **options) for number in range(count)]


def test_early_stopping_by_hand(monkeypatch):
    nan = float("nan")
    scripted(
        monkeypatch,
        [
            [5, 4, 4, 4, 3, 2, 1],  # 2 is the best epoch; 3 and 4 do not fall below it: out after epoch 4
            [5, 4, 4, 3, 3, 3, 1],  # falls again in epoch 4, out after epoch 6
            [5, 4, 3, 2, 1, 0.5, 0.4],  # falls all the time
            [1, 2, 3, 0, 0, 0, 0],  # out after epoch 3
            [2, 1, nan, 0, 0, 0, 0],  # no number: out at once
            [nan, 0, 0, 0, 0, 0, 0],
        ],
    )
    counted = []
    real = Population.keep
    monkeypatch.setattr(Population, "keep", lambda self, members: (counted.append(len(members)), real(self, members)))
    results = train(heads_by_number(6), epochs=7, patience=2)
    assert [result.best_epoch for result in results] == [2, 4, 7, 1, 2, 1]
    assert [len(result.history) for result in results] == [4, 6, 7, 3, 3, 1]
    assert [result.ending for result in results] == [
        "patience",
        "patience",
        "epochs",
        "patience",
        "diverged",
        "diverged",
    ]
    assert counted == [5, 3, 2, 1, 0]  # after epochs 1, 3, 4, 6 and 7
    assert results[1].best.validation_loss == 3


def test_the_weights_are_those_of_the_best_epoch(monkeypatch):
    settings = [redesigned(1e-3, dropout=0.3), redesigned(2e-3, dropout=0.3)]
    shorter = train(settings, epochs=2)[0], train(settings, epochs=3)[1]
    scripted(monkeypatch, [[3, 2, 2, 2, 2], [3, 2, 1, 4, 5]])
    results = train(settings, epochs=5)
    # With the real losses of two and three epochs the last one is the best.
    assert [result.best_epoch for result in shorter] == [2, 3]
    for result, wanted in zip(results, shorter, strict=True):
        assert all(torch.equal(value, wanted.weights[name]) for name, value in result.weights.items())


def test_halving_by_hand(monkeypatch):
    # Five heads in two populations; what counts is the lowest loss so far. After epoch 2: 1, 2, 4, 3, 2, so that heads 0, 1 and
    # 4 go on; after epoch 3: 1, 1.5 and 1.5, so that of the last two the first does.
    losses = [[1, 9, 9, 9, 9], [3, 2, 1.5, 1, 1], [5, 4, 0, 0, 0], [3, 4, 0, 0, 0], [2, 3, 1.5, 0, 0]]
    scripted(monkeypatch, losses)
    settings = [*heads_by_number(3), redesigned(4e-3), redesigned(5e-3)]
    results = train(settings, epochs=5, halving=[2, 3])
    assert [result.ending for result in results] == ["epochs", "epochs", "halving", "halving", "halving"]
    assert [len(result.history) for result in results] == [5, 5, 2, 2, 3]


def test_halving_looks_at_running_heads_only_and_leaves_one(monkeypatch):
    scripted(monkeypatch, [[1, 2, 3, 3], [1, 0.9, 0.8, 0.7], [2, 1.9, 1.8, 1.7]])
    results = train(heads_by_number(3), epochs=4, patience=1, halving=[2, 3])
    # Head 0 leaves by patience in epoch 2, so that the better of the other two goes on, and stays as the last one.
    assert [result.ending for result in results] == ["patience", "epochs", "halving"]


def test_heads_that_stay_do_not_notice_those_that_leave():
    data = make_data()
    settings = [redesigned(1e-2 / (1 + k), dropout=0.1 * k) for k in range(6)]
    halved = train(settings, data, epochs=6, halving=[2, 4])
    whole = train(settings, data, epochs=6)
    assert sum(result.ending == "epochs" for result in halved) == 2
    for one, other in zip(halved, whole, strict=True):
        for row, row_of_whole in zip(one.history, other.history, strict=False):
            assert row.validation_loss == pytest.approx(row_of_whole.validation_loss, abs=2e-4)


def test_the_winner_has_the_lowest_validation_loss_then_comes_first():
    def result(loss):
        rows = (HeadEpoch(1, 1.0, loss, 0.5, 0.5), HeadEpoch(2, 1.0, 0.0, 1.0, 1.0))
        return HeadResult(linear(), rows, 1, {}, 0.0, "epochs")

    results = [result(math.nan), result(0.3), result(0.2), result(0.2)]
    assert winner(results) is results[2]
    assert winner(results[:1]) is results[0]


def test_a_head_that_diverges_takes_nobody_with_it():
    data = make_data()
    results = train([linear(), linear(3e38), linear(1e-3)], data, epochs=3)
    assert [result.ending for result in results] == ["epochs", "diverged", "epochs"]
    for setting, result in zip((linear(), linear(1e-3)), (results[0], results[2]), strict=True):
        assert_close(result, train([setting], data, epochs=3)[0], 1e-4, 1e-3)


# Class weights


def test_balanced_class_weights_are_those_of_scikit_learn():
    data = make_data()
    counts = torch.bincount(data.labels)
    weight = len(data.labels) / (N_CLASSES * counts.float())
    for one, other in zip(
        train([linear(), redesigned()], data, epochs=2, class_weight="balanced"),
        train([linear(), redesigned()], data, epochs=2, class_weight=weight.double()),
        strict=True,
    ):
        assert_same(one, other)


def test_weights_of_one_change_nothing_and_others_help_the_rare_class():
    data = make_data()
    plain, ones, rare = (
        train([linear(3e-3)], data, epochs=3, class_weight=weight)[0]
        for weight in (None, torch.ones(3), torch.tensor([1.0, 1.0, 50.0]))
    )
    assert_close(plain, ones, 1e-6, 1e-6)
    shares = [result.head()(make_rows()[0][VALIDATION]).softmax(1)[:, 2].mean().item() for result in (plain, rare)]
    assert shares[1] > 1.2 * shares[0]


# Resuming


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_resumed_training_ends_as_one_that_was_not_cut(after, precision):
    data = make_data(precision)
    options = {"epochs": 5, "patience": 2, "halving": [2], "class_weight": "balanced"}
    whole = train(MIXTURE, data, **options)
    begun = HeadTraining(data, MIXTURE, **options)
    for _ in range(after):
        begun.run_epoch()
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    begun.run_epoch()  # what comes after the checkpoint must not reach it
    file.seek(0)
    resumed = HeadTraining(data, MIXTURE, **options)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.running == sum(len(result.history) > after for result in whole)
    while resumed.running:
        resumed.run_epoch()
    for one, other in zip(whole, resumed.results(), strict=True):
        assert_same(one, other)


def test_a_state_of_other_settings_is_refused():
    state = HeadTraining(make_data(), [linear()], epochs=1).state_dict()
    for other in (state, {"epoch": 3}, None):
        with pytest.raises(ValueError, match="the state is of other settings"):
            HeadTraining(make_data(), [linear(seed=3)], epochs=1).load_state_dict(other)


def test_a_state_in_memory_is_of_when_it_was_taken():
    whole = train(MIXTURE, epochs=5, patience=2)
    begun, resumed = (HeadTraining(make_data(), MIXTURE, epochs=5, patience=2) for _ in range(2))
    begun.run_epoch()
    state = begun.state_dict()
    while begun.running:
        begun.run_epoch()
    resumed.load_state_dict(state)
    while resumed.running:
        resumed.run_epoch()
    for one, other in zip(whole, resumed.results(), strict=True):
        assert_same(one, other)


def test_rates_of_numpy_leave_a_state_that_loads():
    settings = [linear(rate) for rate in np.logspace(-3, -1, 3)]
    file = io.BytesIO()
    torch.save(HeadTraining(make_data(), settings, epochs=2).state_dict(), file)
    file.seek(0)
    HeadTraining(make_data(), settings, epochs=2).load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize(
    ("after", "epochs", "into", "message"),
    [
        (1, 5, 4, "1 heads of the state go on that have left this training: load it into one that has just begun"),
        (3, 3, 0, "the state is of epoch 3 with 2 heads still running, epochs = 3: give more"),
    ],
)
def test_a_state_that_this_training_cannot_go_on_from_is_refused_and_changes_nothing(after, epochs, into, message):
    mixture, patient = [linear(), linear(1e3)], {"patience": 2}
    begun, training, untouched = (
        HeadTraining(make_data(), mixture, epochs=number, **options)
        for number, options in ((10, {}), (epochs, patient), (epochs, patient))
    )
    for _ in range(after):
        begun.run_epoch()
    for one in (training, untouched):
        for _ in range(into):
            one.run_epoch()
    with pytest.raises(ValueError, match=message):
        training.load_state_dict(begun.state_dict())
    for one in (training, untouched):
        while one.running:
            one.run_epoch()
    for one, other in zip(training.results(), untouched.results(), strict=True):
        assert_same(one, other)


# Progress and errors


def test_other_defaults_of_torch_change_nothing(other_defaults):
    data = make_data()
    with other_defaults():
        within = train(MIXTURE, data, epochs=2)
    for one, other in zip(train(MIXTURE, data, epochs=2), within, strict=True):
        assert_same(one, other)


def test_autocast_around_a_training_changes_nothing():
    whole = train(MIXTURE, epochs=2)
    with torch.autocast("cpu", torch.bfloat16):
        within = train(MIXTURE, epochs=2)
    for one, other in zip(whole, within, strict=True):
        assert_same(one, other)


def test_progress_says_where_it_stands():
    said = []
    results = train_heads(*make_rows(), TRAIN, VALIDATION, MIXTURE[:4], epochs=3, halving=[1], progress=said.append)
    assert [(step.epoch, step.epochs, step.running, step.n_heads) for step in said] == [
        (1, 3, 2, 4),
        (2, 3, 2, 4),
        (3, 3, 0, 4),
    ]
    assert said[-1].best == winner(results).best
    assert all(result.seconds > 0 for result in results)


def test_a_last_batch_of_one_row_is_left_out():
    features, labels = make_rows()
    results = train_heads(features, labels, torch.arange(65), VALIDATION, [redesigned(), linear()], epochs=2)
    assert all(math.isfinite(row.train_loss) for result in results for row in result.history)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": []}, "settings is empty"),
        ({"epochs": 0}, "epochs = 0 is not at least 1"),
        ({"patience": 0}, "patience = 0 is not at least 1"),
        ({"halving": [2, 3]}, "halving holds epoch 3: allowed are 1 to 2, before the last epoch"),
        ({"halving": [0]}, "halving holds epoch 0"),
        ({"class_weight": torch.ones(2)}, r"class_weight must be 3 finite numbers .* got \[1.0, 1.0\]"),
        ({"class_weight": torch.tensor([1.0, -1.0, 1.0])}, "class_weight must be 3 finite numbers of at least 0"),
        ({"class_weight": "even"}, "class_weight = 'even' is no tensor, nor balanced or None"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        HeadTraining(make_data(), **{"settings": [linear()], "epochs": 3, **arguments})


def test_features_of_inference_mode_train_heads_after_it():
    features, labels = make_rows()
    expected = train_heads(features, labels, TRAIN, VALIDATION, MIXTURE, epochs=2)
    with torch.inference_mode():
        inferred = features + 0
        with pytest.raises(RuntimeError, match=r"cannot train within torch.inference_mode\(\): train them after it"):
            train_heads(inferred, labels, TRAIN, VALIDATION, MIXTURE, epochs=2)
    found = train_heads(inferred, labels, TRAIN, VALIDATION, MIXTURE, epochs=2)
    for one, other in zip(expected, found, strict=True):
        assert_same(one, other)


def test_results_wait_for_the_last_head():
    training = HeadTraining(make_data(), [linear(), redesigned()], epochs=2)
    training.run_epoch()
    with pytest.raises(ValueError, match="2 of 2 heads are still running"):
        training.results()


def test_balanced_weights_need_every_class():
    features, labels = make_rows()
    labels[TRAIN] = labels[TRAIN].clamp(max=1)
    data = HeadData.prepare(features, labels, TRAIN, VALIDATION)
    with pytest.raises(ValueError, match="class_weight = 'balanced': class 2 has no training rows"):
        HeadTraining(data, [linear()], epochs=1, class_weight="balanced")
