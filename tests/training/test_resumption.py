"""Going on from a checkpoint that was saved elsewhere, and keeping aside what nobody can go on from."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pydyn.errors import RunError, Stopped
from pydyn.training import execute as execute_module
from pydyn.training import loop
from pydyn.training.checkpoint import load_checkpoint, save_checkpoint
from pydyn.training.execute import execute
from pydyn.training.folder import open_folder
from pydyn.training.history import Epoch, read_history
from pydyn.training.resumption import Place, Resumption
from pydyn.training.summary import read_summary

FINGERPRINT = "0123456789abcdef"
HERE = Place("cpu", "CPU A")


@pytest.fixture
def sit(tmp_path, store, cpu, make_run):
    """Train so many epochs of a Run of five in a sitting on a device of some name; what was said."""
    run = make_run(epochs=5)

    def train(name, epochs=5):
        lines, asked = [], iter([False] * epochs + [True])
        device = replace(cpu, name=name)
        if epochs == run.epochs:
            execute([run], tmp_path, store, device, lines.append)
        else:
            with pytest.raises(Stopped):
                execute([run], tmp_path, store, device, lines.append, lambda: next(asked))
        return lines

    train.directory = run.directory(tmp_path)
    train.superseded = tmp_path / "dynamic" / "superseded" / run.id
    return train


@pytest.fixture
def trained(monkeypatch):
    """The epochs that are trained, one after the other."""
    epochs, run_epoch = [], loop.Training.run_epoch
    monkeypatch.setattr(loop.Training, "run_epoch", lambda self: epochs.append(self.epoch + 1) or run_epoch(self))
    return epochs


def edit_checkpoint(path, **changes):
    save_checkpoint(path, {**load_checkpoint(path), **changes})


def test_a_run_goes_on_from_what_another_machine_saved_and_says_so(sit, trained):
    sit("CPU A", 2)
    lines = sit("CPU B")
    assert trained == [1, 2, 3, 4, 5]
    (told,) = [line for line in lines if "goes on" in line]
    assert told.index("CPU A, ") < told.index("CPU B, ") < told.index("not, to the bit, that of an uninterrupted Run")
    summary = read_summary(sit.directory / "summary.json")
    assert (summary.device, summary.sittings) == ("CPU B", 2)
    (place,) = summary.earlier_places
    assert place.startswith("CPU A, threads: 1, ")
    assert [row.epoch for row in read_history(sit.directory / "history.csv", Epoch)] == [1, 2, 3, 4, 5]
    assert not sit.superseded.exists()


def test_where_a_run_was_before_survives_further_interruptions(sit, trained):
    for name in ("CPU A", "CPU B", "CPU B", "CPU A"):
        sit(name, 1)
    sit("CPU C")
    assert trained == [1, 2, 3, 4, 5]
    summary = read_summary(sit.directory / "summary.json")
    assert [place.partition(",")[0] for place in summary.earlier_places] == ["CPU A", "CPU B"]
    assert summary.sittings == 5


def test_a_run_that_stays_where_it_is_was_nowhere_before(sit):
    sit("CPU A", 2)
    assert not any("goes on" in line for line in sit("CPU A"))
    assert read_summary(sit.directory / "summary.json").earlier_places == []


def test_a_run_goes_on_in_another_precision(sit, trained, monkeypatch):
    monkeypatch.setattr(execute_module, "resolve_precision", lambda wanted, device: "bf16")
    sit("CPU A", 2)
    monkeypatch.setattr(execute_module, "resolve_precision", lambda wanted, device: "fp32")
    sit("CPU A")
    assert trained == [1, 2, 3, 4, 5]
    summary = read_summary(sit.directory / "summary.json")
    assert summary.precision == "fp32"
    assert "bf16" in summary.earlier_places[0]


def test_a_run_begins_anew_on_another_kind_of_device_and_keeps_what_there_was(sit, trained):
    sit("GPU", 2)
    path = sit.directory / "checkpoint.pt"
    edit_checkpoint(path, device="cuda")
    checkpoint, history = path.read_bytes(), (sit.directory / "history.csv").read_bytes()
    lines = sit("CPU A")
    assert trained == [1, 2, 1, 2, 3, 4, 5]
    (told,) = [line for line in lines if "begins anew" in line]
    (kept,) = sit.superseded.iterdir()
    assert str(kept) in told
    assert "GPU, threads: 1" in told
    assert (kept / "checkpoint.pt").read_bytes() == checkpoint
    assert (kept / "history.csv").read_bytes() == history
    summary = read_summary(sit.directory / "summary.json")
    assert (summary.sittings, summary.earlier_places) == (1, [])
    assert not path.exists()


def test_a_run_begins_anew_beside_a_checkpoint_of_something_else(sit, trained):
    sit("CPU A", 2)
    edit_checkpoint(sit.directory / "checkpoint.pt", fingerprint="f" * 16)
    lines = sit("CPU A")
    assert trained == [1, 2, 1, 2, 3, 4, 5]
    assert any("another configuration, data or code" in line and "begins anew" in line for line in lines)
    (kept,) = sit.superseded.iterdir()
    assert load_checkpoint(kept / "checkpoint.pt")["fingerprint"] == "f" * 16


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_an_unreadable_checkpoint_is_kept_aside(sit, trained, content):
    sit("CPU A", 2)
    path = sit.directory / "checkpoint.pt"
    damaged = path.read_bytes()[:-1000] if content is None else content
    path.write_bytes(damaged)
    lines = sit("CPU A")
    assert trained == [1, 2, 1, 2, 3, 4, 5]
    assert any("unreadable checkpoint" in line and "begins anew" in line for line in lines)
    (kept,) = sit.superseded.iterdir()
    assert (kept / "checkpoint.pt").read_bytes() == damaged
    assert len(read_history(kept / "history.csv", Epoch)) == 2


UNFIT = {
    "no place": lambda saved: saved.pop("place"),
    "no device": lambda saved: saved.pop("device"),
    "no earlier places": lambda saved: saved.pop("earlier_places"),
    "no state": lambda saved: saved.pop("state"),
    "a state that is none": lambda saved: saved.update(state=[1, 2]),
    "another network": lambda saved: saved["state"]["training"]["network"].update({"0.weight": torch.zeros(2, 2)}),
    "no strategy": lambda saved: saved["state"]["training"].pop("strategy"),
    "another optimiser": lambda saved: saved["state"]["training"].update(optimiser={"state": {}, "param_groups": []}),
    "no number of sittings": lambda saved: saved["state"]["training"].pop("sittings"),
    "other columns": lambda saved: saved["state"]["history"][0].update(column=1.0),
    "no history": lambda saved: saved["state"].pop("history"),
}


@pytest.mark.parametrize("spoil", UNFIT.values(), ids=UNFIT)
def test_a_checkpoint_that_does_not_fit_is_kept_aside(sit, trained, spoil):
    sit("CPU A", 2)
    path = sit.directory / "checkpoint.pt"
    saved = load_checkpoint(path)
    spoil(saved)
    save_checkpoint(path, saved)
    spoilt = path.read_bytes()
    lines = sit("CPU B")
    assert trained == [1, 2, 1, 2, 3, 4, 5]
    (kept,) = sit.superseded.iterdir()
    assert any("begins anew" in line and str(kept) in line for line in lines)
    assert (kept / "checkpoint.pt").read_bytes() == spoilt
    summary = read_summary(sit.directory / "summary.json")
    assert (summary.sittings, summary.earlier_places) == (1, [])
    assert [row.epoch for row in read_history(sit.directory / "history.csv", Epoch)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_a_device_that_fails_leaves_the_checkpoint_where_it_is(sit, monkeypatch, error):
    def fail(training, state):
        raise error("no memory")

    sit("CPU A", 2)
    monkeypatch.setattr(loop.Training, "load_state_dict", fail)
    with pytest.raises(error):
        sit("CPU A")
    assert (sit.directory / "checkpoint.pt").exists()


@pytest.mark.parametrize("error", [OSError(errno.EIO, os.strerror(errno.EIO)), MemoryError()])
def test_a_disk_that_fails_leaves_the_checkpoint_where_it_is(sit, monkeypatch, trained, error):
    def fail(path):
        raise error

    sit("CPU A", 2)
    with monkeypatch.context() as patched, pytest.raises(type(error)) as raised:
        patched.setattr(Path, "read_bytes", fail)
        sit("CPU A")
    if isinstance(error, OSError):
        assert raised.value.filename == str(sit.directory / "checkpoint.pt")
    sit("CPU A")
    assert trained == [1, 2, 3, 4, 5]
    assert not sit.superseded.exists()


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_no_checkpoint(tmp_path, bit):
    path, weights = tmp_path / "checkpoint.pt", torch.arange(1000.0)
    save_checkpoint(path, {"weights": weights})
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 2 + 4 * 123] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint.pt: unreadable checkpoint \(BadZipFile\)"):
        load_checkpoint(path)


def test_what_is_no_dictionary_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match=r"checkpoint.pt: unreadable checkpoint \(it holds a list\)"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path / "absent.pt") is None


def test_what_was_kept_aside_before_stays_and_the_folder_says_what_it_holds(tmp_path, make_run):
    run, lines = make_run(), []
    for place in (HERE, Place("cuda", "GPU"), HERE, Place("cuda", "GPU")):
        with open_folder(run, tmp_path, FINGERPRINT, lines.append) as directory:
            resumption = Resumption(run, tmp_path, FINGERPRINT, place, lines.append)
            assert resumption.load() is None
            assert json.loads((directory / "run.json").read_text())["fingerprint"] == FINGERPRINT
            assert [path.name for path in directory.iterdir()] == ["run.json"]
            resumption.save({"epoch": 1})
    kept = tmp_path / "dynamic" / "superseded" / f"{run.id}"
    places = [load_checkpoint(kept / f"{FINGERPRINT}{again}" / "checkpoint.pt")["place"] for again in ("", "+", "++")]
    assert places == ["CPU A", "GPU", "CPU A"]
    assert len(lines) == 3
