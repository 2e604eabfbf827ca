"""Training Runs for real: the same twice, resumed, killed, skipped, set aside."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pydyn.data.store import ImageStore
from pydyn.errors import DataError, RunError, Stopped
from pydyn.models import cnn
from pydyn.selection.controls import Fixed
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch
from pydyn.training import execute as execute_module
from pydyn.training import loop
from pydyn.training.execute import execute
from pydyn.training.history import Epoch, read_history
from pydyn.training.summary import read_summary


def silent(line):
    pass


def rows_without_seconds(directory):
    with (directory / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_runs_have_byte_identical_histories_and_weights(tmp_path, store, cpu, make_run, precision):
    run = make_run(precision=precision)
    for results in ("one", "two"):
        execute([run], tmp_path / results, store, cpu, silent)
    one, two = (run.directory(tmp_path / results) for results in ("one", "two"))
    assert rows_without_seconds(one) == rows_without_seconds(two)
    assert (one / "weights.safetensors").read_bytes() == (two / "weights.safetensors").read_bytes()


def test_two_processes_train_the_same_bytes(tmp_path, store, make_run):
    run = make_run()
    for results in ("one", "two"):
        command = [sys.executable, "-c", TRAIN, json.dumps([run.to_dict()]), str(tmp_path / results), str(store)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    one, two = (run.directory(tmp_path / results) for results in ("one", "two"))
    assert rows_without_seconds(one) == rows_without_seconds(two)
    assert (one / "weights.safetensors").read_bytes() == (two / "weights.safetensors").read_bytes()


def test_another_seed_is_another_training(tmp_path, store, cpu, make_run):
    runs = [make_run(), make_run(seed=1)]
    execute(runs, tmp_path, store, cpu, silent)
    one, two = (rows_without_seconds(run.directory(tmp_path)) for run in runs)
    assert one != two


def test_no_global_generator_is_touched(tmp_path, store, cpu, make_run, global_generators):
    torch.manual_seed(1)
    before = global_generators()
    execute([make_run(epochs=1)], tmp_path, store, cpu, silent)
    assert global_generators() == before


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, store, cpu, make_run, monkeypatch, protocol):
    run = make_run(epochs=5, protocol=protocol)
    execute([run], tmp_path / "whole", store, cpu, silent)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    run_epoch, done = loop.Training.run_epoch, []

    def interrupted(training):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(training.epoch)
        return run_epoch(training)

    monkeypatch.setattr(loop.Training, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute([run], tmp_path / "cut", store, cpu, silent)
    assert not (run.directory(tmp_path / "cut") / "summary.json").exists()
    monkeypatch.setattr(loop.Training, "run_epoch", run_epoch)
    execute([run], tmp_path / "cut", store, cpu, silent)
    whole, cut = (run.directory(tmp_path / results) for results in ("whole", "cut"))
    assert rows_without_seconds(whole) == rows_without_seconds(cut)
    assert (whole / "weights.safetensors").read_bytes() == (cut / "weights.safetensors").read_bytes()
    a, b = read_summary(whole / "summary.json"), read_summary(cut / "summary.json")
    assert (a.sittings, b.sittings) == (1, 2)
    assert replace(a, sittings=2, seconds=b.seconds, finished=b.finished) == b
    assert not (cut / "checkpoint.pt").exists()


TRAIN = """
import json
import sys
from pathlib import Path
from pydyn.studies.run import Run
from pydyn.training import loop
from pydyn.device import open_device
from pydyn.training.execute import execute
loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
runs = [Run.from_dict(values) for values in json.loads(sys.argv[1])]
execute(runs, Path(sys.argv[2]), Path(sys.argv[3]), open_device("cpu", 1), lambda line: print(line, flush=True))
"""


def test_kill_9_loses_no_complete_run_and_leaves_nothing_that_looks_complete(tmp_path, store, cpu, make_run):
    runs = [make_run(epochs=1), make_run(epochs=60, seed=1)]
    values = json.dumps([run.to_dict() for run in runs])
    command = [sys.executable, "-c", TRAIN, values, str(tmp_path), str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    first, second = (run.directory(tmp_path) for run in runs)
    deadline = time.monotonic() + 120
    while not (second / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    summary = (first / "summary.json").read_bytes()
    assert not (second / "summary.json").exists()
    assert not (second / "weights.safetensors").exists()

    lines = []
    execute(runs, tmp_path, store, cpu, lines.append)
    assert any(f"{runs[0].id}: complete already" in line for line in lines)
    assert (first / "summary.json").read_bytes() == summary
    assert read_summary(second / "summary.json").sittings == 2
    execute([runs[1]], tmp_path / "uninterrupted", store, cpu, silent)
    whole = runs[1].directory(tmp_path / "uninterrupted")
    assert rows_without_seconds(second) == rows_without_seconds(whole)
    assert (second / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_twenty_kills_at_random_points_change_nothing(tmp_path, store, make_run):
    run = make_run(epochs=150, strategy=InfoBatch(ratio=0.3))
    values = json.dumps([run.to_dict()])

    def start(results):
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, values, str(results), str(store)], stdout=subprocess.DEVNULL
        )

    def length():
        return history.stat().st_size if history.exists() else 0

    assert start(tmp_path / "whole").wait() == 0
    cut, noise = run.directory(tmp_path / "cut"), random.Random(0)
    history = cut / "history.csv"
    for _ in range(20):
        before = length()
        process = start(tmp_path / "cut")
        # An epoch further, so that the kill does not fall into the start; then anywhere.
        while length() <= before:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(noise.uniform(0, 0.05))
        process.kill()
        process.wait()
    assert not (cut / "summary.json").exists(), "it was to be killed 20 times before its end"
    assert start(tmp_path / "cut").wait() == 0
    whole = run.directory(tmp_path / "whole")
    assert rows_without_seconds(whole) == rows_without_seconds(cut)
    assert (whole / "weights.safetensors").read_bytes() == (cut / "weights.safetensors").read_bytes()


def test_asked_to_stop_a_run_saves_and_the_next_call_goes_on(tmp_path, store, cpu, make_run, monkeypatch):
    run = make_run(epochs=5)
    execute([run], tmp_path / "whole", store, cpu, silent)
    asked = iter([False, False, True])  # before the Run, after its first epoch, after its second
    with pytest.raises(Stopped, match="saved after epoch 2 of 5") as stopped:
        execute([run], tmp_path / "cut", store, cpu, silent, lambda: next(asked))
    assert stopped.value.status == 75
    trained, run_epoch = [], loop.Training.run_epoch
    monkeypatch.setattr(loop.Training, "run_epoch", lambda self: trained.append(self.epoch + 1) or run_epoch(self))
    execute([run], tmp_path / "cut", store, cpu, silent)
    assert trained == [3, 4, 5]
    assert rows_without_seconds(run.directory(tmp_path / "whole")) == rows_without_seconds(
        run.directory(tmp_path / "cut")
    )


def test_asked_to_stop_in_the_last_epoch_of_a_run_the_next_one_is_not_begun(tmp_path, store, cpu, make_run):
    runs = [make_run(epochs=1), make_run(epochs=1, seed=1)]
    asked = iter([False, False, True])  # before the first Run, after its only epoch, before the second Run
    with pytest.raises(Stopped, match="seed1: asked to stop"):
        execute(runs, tmp_path, store, cpu, silent, lambda: next(asked))
    assert runs[0].is_complete(tmp_path)
    assert not runs[1].directory(tmp_path).exists()


@pytest.mark.parametrize("strategy", [InfoBatch(), Fresh(alpha=0.3), Dynamic(alpha=0.3, replacements="ambiguous")])
def test_every_strategy_trains_and_is_resumed_alike(tmp_path, store, cpu, make_run, strategy):
    run = make_run(epochs=4, strategy=strategy)
    execute([run], tmp_path / "whole", store, cpu, silent)
    asked = iter([False, False, True])  # before the Run, after its first epoch, after its second
    with pytest.raises(Stopped):
        execute([run], tmp_path / "cut", store, cpu, silent, lambda: next(asked))
    execute([run], tmp_path / "cut", store, cpu, silent)
    assert rows_without_seconds(run.directory(tmp_path / "whole")) == rows_without_seconds(
        run.directory(tmp_path / "cut")
    )


def test_a_run_of_another_fingerprint_is_kept_aside_and_trained_again(tmp_path, store, cpu, make_run, monkeypatch):
    run = make_run(epochs=1)
    execute([run], tmp_path, store, cpu, silent)
    old = (run.directory(tmp_path) / "summary.json").read_bytes()
    monkeypatch.setattr(execute_module, "training_digest", lambda strategy: "other code")
    lines = []
    execute([run], tmp_path, store, cpu, lines.append)
    assert any("another configuration, data or code" in line for line in lines)
    kept = list((tmp_path / "dynamic" / "superseded").rglob("summary.json"))
    assert [path.read_bytes() for path in kept] == [old]
    assert (run.directory(tmp_path) / "summary.json").read_bytes() != old


@pytest.mark.parametrize("name", ["history.csv", "weights.safetensors", "times_trained.npy"])
def test_a_run_that_lost_a_file_is_trained_again(tmp_path, store, cpu, make_run, name):
    run = make_run(epochs=1)
    execute([run], tmp_path, store, cpu, silent)
    (run.directory(tmp_path) / name).unlink()
    execute([run], tmp_path, store, cpu, silent)
    assert run.is_complete(tmp_path)


def test_a_store_of_another_data_set_is_refused(tmp_path, store, cpu, make_run):
    with pytest.raises(DataError, match=r"holds 'tiny', not 'other'"):
        execute([make_run(dataset="other")], tmp_path, store, cpu, silent)


def test_a_folder_that_names_no_fingerprint_is_refused(tmp_path, store, cpu, make_run):
    run = make_run(epochs=1)
    run.directory(tmp_path).mkdir(parents=True)
    (run.directory(tmp_path) / "run.json").write_text('{"fingerprint": "../../evil"}')
    with pytest.raises(RunError, match="not a Run's description"):
        execute([run], tmp_path, store, cpu, silent)


def test_a_summary_that_is_not_of_its_folder_is_refused(tmp_path, store, cpu, make_run):
    one, two = make_run(epochs=1), make_run(epochs=1, seed=1)
    execute([one, two], tmp_path, store, cpu, silent)
    foreign = (two.directory(tmp_path) / "summary.json").read_bytes()
    (one.directory(tmp_path) / "summary.json").write_bytes(foreign)
    with pytest.raises(RunError, match="not of the Run that its folder holds"):
        execute([one], tmp_path, store, cpu, silent)


def test_two_processes_do_not_train_one_run_at_once(tmp_path, store, make_run):
    # Long enough for both to be at it together, were they not kept apart.
    run = make_run(epochs=60)
    command = [sys.executable, "-c", TRAIN, json.dumps([run.to_dict()]), str(tmp_path), str(store)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("done, accuracy" in output for output in outputs) == 1
    assert sum("complete already" in output for output in outputs) == 1


def test_what_is_recorded_adds_up(tmp_path, store, cpu, make_run):
    run = make_run(epochs=4, protocol="holdout")
    execute([run], tmp_path, store, cpu, silent)
    rows = read_history(run.directory(tmp_path) / "history.csv", Epoch)
    summary = read_summary(run.directory(tmp_path) / "summary.json")
    with ImageStore.open(store) as opened:
        assert summary.n_pool == len(opened.indices("train"))
        assert summary.n_validation == len(opened.indices("validation"))
        assert summary.n_test == len(opened.indices("test")) == 30
        assert summary.data == opened.digest
    size = round(summary.n_pool * 0.5)
    assert [row.subset_size for row in rows] == [size] * 4
    assert [row.images_trained for row in rows] == [size, 2 * size, 3 * size, 4 * size]
    # delta = 1: every epoch after the first resamples, so half of each new subset is new to it.
    assert [row.resampling != "none" for row in rows] == [False, True, True, True]
    assert rows[0].unique_images == size
    assert size < rows[-1].unique_images <= summary.n_pool
    assert summary.accuracy.best_validation == max(row.validation_accuracy for row in rows)
    assert rows[summary.accuracy.best_epoch - 1].validation_accuracy == summary.accuracy.best_validation
    assert summary.resamplings_1 + summary.resamplings_2 == 3
    assert summary.seconds.train == pytest.approx(sum(row.seconds_train for row in rows))
    spent = [row.seconds_train + row.seconds_evaluate + row.seconds_select for row in rows]
    assert all(not row.seconds_waiting > seconds for row, seconds in zip(rows, spent, strict=True))


def test_the_saved_weights_give_the_reported_accuracy(tmp_path, store, cpu, make_run):
    run = make_run(epochs=6, precision="fp32", strategy=Fixed(alpha=80))
    execute([run], tmp_path, store, cpu, silent)
    network = cnn.build("cnn_a", 1, 3, torch.Generator())
    network.load_state_dict(load_file(run.directory(tmp_path) / "weights.safetensors"))
    with ImageStore.open(store) as opened, torch.no_grad():
        test = opened.indices("test")
        pixels = torch.from_numpy(opened.images(test)).permute(0, 3, 1, 2) / 255
        logits = network((pixels - float(opened.mean[0])) / float(opened.std[0]))
        accuracy = (logits.argmax(1).numpy() == opened.labels[test]).mean()
    assert accuracy == pytest.approx(read_summary(run.directory(tmp_path) / "summary.json").reported_accuracy)


def test_training_learns(tmp_path, store, cpu, make_run, full):
    run = make_run(epochs=15, strategy=full)
    execute([run], tmp_path, store, cpu, silent)
    assert read_history(run.directory(tmp_path) / "history.csv", Epoch)[-1].train_accuracy > 0.8


def test_runs_that_do_not_fit_the_data_are_refused_by_name(tmp_path, store, cpu, make_run):
    run = make_run(strategy=Fixed(alpha=91))
    with pytest.raises(RunError, match=r"fixed-a91.*alpha = 91 is 91 images, allowed is 1 to 90"):
        execute([run], tmp_path, store, cpu, silent)
    assert not (run.directory(tmp_path) / "history.csv").exists()


@pytest.mark.parametrize("content", ["", "epoch,loss\n1,2\n", "{}"])
def test_damaged_histories_and_summaries_are_refused_by_file(tmp_path, content):
    (tmp_path / "file").write_text(content)
    with pytest.raises(RunError, match="not a readable history"):
        read_history(tmp_path / "file", Epoch)
    with pytest.raises(RunError, match="not a readable summary"):
        read_summary(tmp_path / "file")
    with pytest.raises(RunError, match="the Run is not complete"):
        read_summary(tmp_path / "absent")
