"""Heads trained at once: what comes out, stopped, halved, resumed."""

import io
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch.nn.functional import cross_entropy

from pydyn.models import heads
from pydyn.training.head_data import HeadData
from pydyn.training.head_population import Population
from pydyn.training.heads import HeadEpoch, HeadResult, HeadTraining, train_heads, winner
from tests.training.small_heads import (
    MIXTURE,
    N_CLASSES,
    TRAIN,
    VALIDATION,
    assert_close,
    assert_same,
    linear,
    make_data,
    make_rows,
    redesigned,
    train,
)

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


def test_the_winner_has_the_lowest_validation_loss_then_comes_first():
    def result(loss):
        rows = (HeadEpoch(1, 1.0, loss, 0.5, 0.5), HeadEpoch(2, 1.0, 0.0, 1.0, 1.0))
        return HeadResult(linear(), rows, 1, {}, 0.0, "epochs")

    results = [result(math.nan), result(0.3), result(0.2), result(0.2)]
    assert winner(results) is results[2]
    assert winner(results[:1]) is results[0]


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
