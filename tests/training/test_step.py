"""Recorded steps: the same training as step by step, to the last bit."""

import weakref
from dataclasses import replace

import pytest
import torch

from pydyn.data.batches import ResidentImages
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.infobatch import InfoBatch
from pydyn.training import loop, step
from pydyn.training.execute import execute
from tests.training.recording import Recorder
from tests.training.test_training import rows_without_seconds, silent


@pytest.fixture
def recorder(monkeypatch):
    """Everything trained from here on is recorded."""
    recorder = Recorder()
    monkeypatch.setattr(loop, "recorder_for", lambda device: recorder)
    return recorder


def trained(run, results, store, cpu):
    execute([run], results, store, cpu, silent)
    directory = run.directory(results)
    return rows_without_seconds(directory), (directory / "weights.safetensors").read_bytes()


# 90 images in batches of 16, and as many epochs as `run` has: the last batch is smaller, and recorded from the second epoch on,
# if it is of the same size again. The evaluation is of one batch, recorded too.
@pytest.mark.parametrize(
    ("changes", "recordings"),
    [
        ({"strategy": Full()}, 3),
        ({"strategy": Full(), "epochs": 1}, 2),
        ({"strategy": Full(), "model": "deeper"}, 3),  # dropout
        ({"strategy": Full(), "model": "normalised", "augmentation": "rotate-shift-flip"}, 3),  # running means
        ({"strategy": Dynamic(alpha=0.5, beta=0.5, delta=1.0), "augmentation": "crop-flip", "batch_norm": True}, 3),
        # How many images it takes, and with that how often what is left repeats itself, is a matter of the processor's rounding.
        ({"strategy": InfoBatch(ratio=0.5, anneal=0.4), "epochs": 5}, None),
        ({"strategy": Fixed(alpha=0.1)}, 2),  # no whole batch
    ],
)
def test_recorded_steps_train_the_same_bits(tmp_path, store, cpu, make_run, recorder, monkeypatch, changes, recordings):
    run = make_run(**changes)
    recorded = trained(run, tmp_path / "recorded", store, cpu)
    assert recordings in (None, recorder.n_recorded)
    assert recorder.n_replayed > 0
    monkeypatch.undo()
    assert trained(run, tmp_path / "plain", store, cpu) == recorded


@pytest.mark.parametrize(
    ("device", "kernels", "recorder"),
    [("cpu", "13.0", None), ("cuda", None, None), ("cuda", "13.0", step.capture)],
)
def test_steps_are_captured_on_cuda_where_our_kernels_are(monkeypatch, device, kernels, recorder):
    monkeypatch.setattr(step, "EXTENSION", replace(step.EXTENSION, cuda_version=kernels))
    assert step.recorder_for(torch.device(device)) is recorder


def test_a_resumed_run_records_its_steps_anew(tmp_path, store, cpu, make_run, recorder, monkeypatch):
    run = make_run(epochs=4)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    run_epoch = loop.Training.run_epoch

    def interrupted(training):
        if training.epoch == 2 and training.sittings == 1:
            raise KeyboardInterrupt
        return run_epoch(training)

    monkeypatch.setattr(loop.Training, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute([run], tmp_path / "recorded", store, cpu, silent)
    recorded = trained(run, tmp_path / "recorded", store, cpu)
    assert recorder.n_recorded == 2 * 3  # whole batches, what is left, evaluation
    monkeypatch.undo()
    assert trained(run, tmp_path / "plain", store, cpu) == recorded


@pytest.mark.parametrize(
    ("epochs", "alive"),
    [
        ([(90, False)] * 3, [{16}, {16, 10}, {16, 10}]),
        ([(90, False), (90, False), (85, False), (90, False)], [{16}, {16, 10}, {16}, {16}]),  # gone when not repeated
        ([(85, True), (85, True), (90, True), (90, False)], [{16}, {16, 5}, {16}, {16, 10}]),
        ([(9, False), (9, False), (96, False)], [set(), {9}, {16}]),
    ],
)
def test_what_an_epoch_does_not_repeat_is_forgotten(epochs, alive):
    class Remembered(Recorder):
        def __call__(self, run):
            taken, replay = super().__call__(run)
            size = taken.shape[1]
            recordings.append(size)
            weakref.finalize(replay, recordings.remove, size)
            return taken, replay

    recordings = []
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (96, 4, 4, 1), dtype=torch.uint8, generator=generator)
    images = ResidentImages(pixels, torch.arange(96) % 3, (0.5,), (0.25,))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    optimiser = torch.optim.Adam(network.parameters())
    steps = step.Step(step.Passes(network, images, "fp32"), optimiser, 16, "none", 0, Remembered())
    for (n_images, weighted), expected in zip(epochs, alive, strict=True):
        steps.prepare(n_images, weighted)
        assert sorted(recordings) == sorted(expected)


def test_recording_draws_nothing_and_is_in_no_time_of_the_epoch(tmp_path, store, cpu, make_run, monkeypatch):
    class Slow(Recorder):
        def __call__(self, run):
            clock.now += 1000
            return super().__call__(run)

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

        def monotonic(self):
            return self.now

    clock, slow = Clock(), Slow()
    monkeypatch.setattr(loop, "recorder_for", lambda device: slow)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "seconds_waited", clock.perf_counter)  # as if all that time went by waiting
    before = torch.get_rng_state()
    run = make_run(strategy=Full(), model="deeper", epochs=1)  # with dropout
    execute([run], tmp_path, store, cpu, silent)
    assert slow.n_recorded == 2
    assert torch.equal(torch.get_rng_state(), before)
    history = (run.directory(tmp_path) / "history.csv").read_text()
    assert history.splitlines()[1].endswith(",0.0,0.0,0.0,0.0")


def test_waiting_counts_before_and_after_recording(tmp_path, store, cpu, make_run, monkeypatch):
    readings = iter([1.0, 2.0, 4.0, 8.0])  # at the start, around what is recorded, at the end
    monkeypatch.setattr(loop, "seconds_waited", lambda: next(readings))
    run = make_run(strategy=Full(), epochs=1)
    execute([run], tmp_path, store, cpu, silent)
    history = (run.directory(tmp_path) / "history.csv").read_text()
    assert history.splitlines()[1].endswith(f",{(2.0 - 1.0) + (8.0 - 4.0)}")
