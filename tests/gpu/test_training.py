"""Training on a GPU: captured steps against eager ones, and the same Run twice."""

import numpy as np
import pytest
import torch

from pydyn.data.batches import ResidentImages
from pydyn.device import open_device
from pydyn.selection.controls import Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.infobatch import InfoBatch
from pydyn.studies.run import Run
from pydyn.training import loop, step
from pydyn.training.checkpoint import load_checkpoint, save_checkpoint
from pydyn.training.protocol import Parts

EPOCHS = 5

SETTINGS = [
    {"strategy": Dynamic(alpha=0.5, beta=0.5, delta=1.0), "augmentation": "crop-flip"},
    {"strategy": Full(), "model": "deeper"},  # dropout
    {"strategy": Full(), "model": "normalised", "augmentation": "rotate-shift-flip", "batch_norm": True},
    {"strategy": InfoBatch(ratio=0.5, anneal=0.4)},  # with weights
    {"strategy": Full(), "model": "cnn_b"},  # convolutions of few channels
]


def make_training(precision, n_train=200, **changes):
    """A short Run whose last batch is not whole."""
    device = open_device("cuda", 1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n_train + 100, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (n_train + 100,), generator=generator)
    images = ResidentImages(pixels.to(device.torch), labels.to(device.torch), (0.5,) * 3, (0.25,) * 3)
    values = {
        "study": "dynamic",
        "dataset": "random",
        "protocol": "paper",
        "model": "cnn_a",
        "batch_norm": False,
        "strategy": Full(),
        "epochs": EPOCHS,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "precision": precision,
        "augmentation": "none",
        "seed": 0,
    }
    parts = Parts(np.arange(n_train), np.arange(n_train, n_train + 100), np.empty(0, np.int64))
    return loop.Training(Run(**{**values, **changes}), images, parts, 10, precision)


def go_on(training, epochs):
    rows = [training.run_epoch().__dict__ for _ in range(epochs)]
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def train(precision, **changes):
    """Rows without seconds, and the weights."""
    training = make_training(precision, **changes)
    return go_on(training, EPOCHS), training.network.state_dict()


def assert_equal(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(value, other[1][name]) for name, value in one[1].items())


def test_every_whole_batch_is_a_replay_of_one_capture(monkeypatch):
    captured, replayed = [], []

    def counted(run):
        taken, replay = step.capture(run)
        captured.append(run)
        return taken, lambda: replayed.append(replay())

    monkeypatch.setattr(loop, "recorder_for", lambda device: counted)
    train("bf16")
    # Of training whole batches and, from the second epoch on, what is left; of evaluation the one batch there is.
    assert len(captured) == 3
    assert len(replayed) == 200 // 32 * EPOCHS + (EPOCHS - 1) + EPOCHS


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    whole = train("bf16", model="deeper")
    before = make_training("bf16", model="deeper")
    rows = go_on(before, 2)
    save_checkpoint(tmp_path / "checkpoint.pt", before.state_dict())
    after = make_training("bf16", model="deeper")
    after.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert_equal(whole, (rows + go_on(after, EPOCHS - 2), after.network.state_dict()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", SETTINGS)
def test_captured_steps_train_the_same_bits_as_eager_ones(monkeypatch, precision, changes):
    captured = train(precision, **changes)
    monkeypatch.setattr(loop, "recorder_for", lambda device: None)
    assert_equal(captured, train(precision, **changes))


def test_published_batches_train_the_same_bits_captured_eager_and_on_a_stream(monkeypatch):
    # Kernels that overlap, as in batches of 32 they hardly do: a buffer taken too early would show.
    published = {"batch_size": 512, "n_train": 2 * 512 + 424, "strategy": Full(), "augmentation": "crop-flip"}
    captured = train("bf16", **published)
    monkeypatch.setattr(loop, "recorder_for", lambda device: None)
    assert_equal(captured, train("bf16", **published))
    with torch.cuda.stream(torch.cuda.Stream()):
        beside = train("bf16", **published)
    torch.cuda.synchronize()
    assert_equal(captured, beside)


def test_eager_steps_on_a_stream_of_their_own_train_the_same_bits(monkeypatch):
    monkeypatch.setattr(loop, "recorder_for", lambda device: None)
    plain = train("bf16")
    with torch.cuda.stream(torch.cuda.Stream()):  # where gradients of weights are made beside the rest
        beside = train("bf16")
    torch.cuda.synchronize()
    assert_equal(plain, beside)


@pytest.mark.parametrize("changes", SETTINGS)
def test_the_same_run_twice_gives_the_same_bits(changes):
    assert_equal(train("bf16", **changes), train("bf16", **changes))


def test_an_epoch_of_captured_steps_does_not_wait_for_the_device(monkeypatch):
    take, replayed = loop.Step.__call__, []

    def unwaiting(self, *arguments):
        replayed.append(bool(self._recorded))
        torch.cuda.set_sync_debug_mode("error")
        try:
            return take(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop.Step, "__call__", unwaiting)
    train("bf16")
    assert replayed and all(replayed)
