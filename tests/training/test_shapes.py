"""Populations and analyses from an image store to summaries, for real."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pydyn.config.datasets import ShapesDataset
from pydyn.config.main import parse
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.device import open_device
from pydyn.errors import RunError, Stopped
from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages, population_evaluate
from pydyn.studies.registry import experiments
from pydyn.training import population_runs
from pydyn.training.analysis_summary import read_analysis_summary
from pydyn.training.checkpoint import load_checkpoint, save_checkpoint
from pydyn.training.history import read_history
from pydyn.training.population_runs import architecture_of
from pydyn.training.population_summary import MemberEpoch, end_of, read_population_summary, write_population_summary
from pydyn.training.resumption import Place
from pydyn.training.shapes import execute_shapes

RAW = {
    "studies": ["shapes"],
    "datasets": {"figures": {"source": "shapes", "train": 240, "test": 90, "size": [0.4, 0.9], "image_size": 16}},
    "shapes": {
        "replicates": 3,
        "trainings": [{"dataset": "figures", "epochs": 8, "filters": ["4-3", "3"]}],
        "setting": {"pixels": "unit", "loss": "exact", "learning_rate": 0.01},
        "analyses": [{"dataset": "figures", "filters": "4-3"}],
    },
}
LISTS = experiments(parse(RAW), "shapes")
POPULATION, ONE_LAYER = LISTS["trainings"]
(ANALYSIS,) = LISTS["analyses"]


@pytest.fixture(scope="session")
def figures(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "figures.h5"
    prepare("figures", ShapesDataset.model_validate_json(json.dumps(RAW["datasets"]["figures"])), Path(), path)
    return path


@pytest.fixture
def execute(figures, tmp_path):
    """Runs to their folder of results; what was said."""
    threads_before = torch.get_num_threads()

    def run(*runs, results=tmp_path, threads=1, stop=lambda: False):
        lines = []
        execute_shapes(list(runs), results, figures, open_device("cpu", threads), lines.append, stop)
        return lines

    yield run
    torch.set_num_threads(threads_before)


@pytest.fixture(scope="session")
def finished(figures, tmp_path_factory) -> Path:
    """Everything, once."""
    results = tmp_path_factory.mktemp("finished")
    runs = [POPULATION, ONE_LAYER, ANALYSIS]
    execute_shapes(runs, results, figures, open_device("cpu", 1), lambda line: None)
    return results


@pytest.mark.parametrize(
    ("accuracy", "end"),
    [
        (1.0, "learnt"),
        (0.99, "learnt"),
        (0.66556, "2/3"),
        (0.33444, "1/3"),
        (0.33278, "1/3"),
        (0.5, "other"),
        (0, "other"),
    ],
)
def test_published_accuracies_end_where_the_thesis_says(accuracy, end):
    assert end_of(accuracy, 3) == end


def test_the_summary_says_of_each_member_what_its_last_row_says(finished):
    directory = POPULATION.directory(finished)
    summary = read_population_summary(directory / "summary.json")
    rows = read_history(directory / "history.csv", MemberEpoch)
    assert [(row.epoch, row.seed) for row in rows] == [(epoch, seed) for epoch in range(1, 9) for seed in range(3)]
    for member in summary.members:
        own = [row for row in rows if row.seed == member.seed]
        assert member.validation_accuracy == own[-1].validation_accuracy
        assert member.best_validation == max(row.validation_accuracy for row in own)
        assert own[member.best_epoch - 1].validation_accuracy == member.best_validation
        assert member.dead_filters == [own[-1].dead_filters_1, own[-1].dead_filters_2]
    assert (summary.n_train, summary.n_validation, summary.n_classes) == (240, 90, 3)
    # conv 1: 4 x 9 + 4, conv 2: 3 x 4 x 9 + 3, dense: 3 x (3 x 4 x 4) + 3.
    assert summary.n_parameters == 40 + 111 + 147


def test_the_weights_are_those_of_the_reported_accuracy(finished, figures):
    directory = POPULATION.directory(finished)
    weights = load_file(directory / "weights.safetensors")
    with ImageStore.open(figures) as store:
        rows = store.indices("test")
        images = GreyImages(torch.from_numpy(store.images(rows)[..., 0]), torch.from_numpy(store.labels[rows]))
    members = read_population_summary(directory / "summary.json").members
    architecture = architecture_of(POPULATION, images.image_size, 3)
    for name, value in (("parameters", "validation_accuracy"), ("best_parameters", "best_validation")):
        predictions, _ = population_evaluate(architecture, images, weights[name])
        accuracies = (predictions == images.labels).double().mean(1)
        np.testing.assert_allclose(accuracies, [getattr(member, value) for member in members])


def test_what_is_complete_is_left_alone(finished, execute):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    lines = execute(POPULATION, ONE_LAYER, ANALYSIS, results=finished)
    assert all("complete already" in line for line in lines)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.*") if path.is_file()}.items() >= {
        item for item in before.items() if item[0].suffix != ".lock"
    }


def test_stopped_and_started_again_it_ends_as_if_never_stopped(finished, execute, tmp_path):
    asked = iter([False, False, False, True])
    with pytest.raises(Stopped, match="saved after epoch 3"):
        execute(POPULATION, stop=lambda: next(asked))
    assert not (POPULATION.directory(tmp_path) / "summary.json").exists()
    lines = execute(POPULATION, threads=2)
    assert "goes on after epoch 3" in lines[0]
    assert_same(finished, tmp_path)


def test_started_again_elsewhere_it_goes_on_and_says_where_it_was(finished, execute, tmp_path, monkeypatch):
    for name in ("CPU A", "CPU B"):
        monkeypatch.setattr(population_runs, "_place", lambda device, name=name: Place("cpu", name))
        stop_after(execute, 2)
    monkeypatch.undo()
    lines = execute(POPULATION)
    assert f"its checkpoint was saved on CPU B; it goes on on {open_device('cpu', 1).name}, " in lines[0]
    assert "goes on after epoch 4" in lines[1]
    assert_same(finished, tmp_path)
    summary = read_population_summary(POPULATION.directory(tmp_path) / "summary.json")
    assert summary.earlier_places == ["CPU A", "CPU B"]


def test_started_again_on_another_kind_of_device_it_begins_anew(finished, execute, tmp_path, monkeypatch):
    monkeypatch.setattr(population_runs, "_place", lambda device: Place("cuda", "GPU"))
    stop_after(execute, 2)
    monkeypatch.undo()
    lines = execute(POPULATION)
    assert "another kind of device (GPU)" in lines[0]
    (kept,) = (tmp_path / "shapes" / "superseded" / POPULATION.id).iterdir()
    assert (kept / "checkpoint.pt").exists()
    assert_same(finished, tmp_path)
    assert read_population_summary(POPULATION.directory(tmp_path) / "summary.json").earlier_places == []


@pytest.mark.parametrize("missing", ["population", "rows", "seconds"])
def test_beside_a_state_of_another_layout_it_begins_anew(finished, execute, tmp_path, missing):
    stop_after(execute, 2)
    path = POPULATION.directory(tmp_path) / "checkpoint.pt"
    saved = load_checkpoint(path)
    del saved["state"][missing]
    save_checkpoint(path, saved)
    lines = execute(POPULATION)
    assert f"does not fit (KeyError: '{missing}'); it begins anew" in lines[0]
    assert_same(finished, tmp_path)


def stop_after(execute, epochs):
    asked = iter([False] * epochs + [True])
    with pytest.raises(Stopped):
        execute(POPULATION, stop=lambda: next(asked))


def assert_same(results, others):
    one, other = POPULATION.directory(results), POPULATION.directory(others)
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    summaries = [read_population_summary(directory / "summary.json") for directory in (one, other)]
    assert summaries[0].members == summaries[1].members


KILLED = """
import sys
from pathlib import Path
import pydyn.training.population_runs as population_runs
from pydyn.device import open_device
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.shapes import execute_shapes
import json, time
population_runs.SECONDS_BETWEEN_CHECKPOINTS = 0.0
step = population_runs.Population.run_epoch
def slow(self):
    time.sleep(0.1)
    return step(self)
population_runs.Population.run_epoch = slow
run = PopulationRun.from_dict(json.loads(sys.argv[1]))
execute_shapes([run], Path(sys.argv[2]), Path(sys.argv[3]), open_device("cpu", 1), print)
"""


@pytest.mark.slow
def test_killed_it_leaves_nothing_that_looks_complete_and_goes_on(finished, execute, figures, tmp_path):
    command = [sys.executable, "-c", KILLED, json.dumps(POPULATION.to_dict()), str(tmp_path), str(figures)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    checkpoint = POPULATION.directory(tmp_path) / "checkpoint.pt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    assert not POPULATION.is_complete(tmp_path)
    lines = execute(POPULATION)
    assert "goes on after epoch" in lines[0]
    assert_same(finished, tmp_path)


def test_the_analysed_network_learnt_and_is_pruned_to_one_filter_a_layer(finished):
    population = read_population_summary(POPULATION.directory(finished) / "summary.json")
    summary = read_analysis_summary(ANALYSIS.directory(finished) / "summary.json")
    perfect = [member.seed for member in population.members if member.validation_accuracy == 1]
    learnt = [member.seed for member in population.members if member.validation_accuracy >= 0.99]
    assert learnt, "the test needs a network that learns"
    assert summary.learnt
    assert summary.member_seed == (perfect or learnt)[0]
    assert (summary.n_pruned_by, summary.n_images) == (240, 330)
    assert len(summary.left) == 2
    assert {name for step in summary.steps for name in step.removed} | set(summary.left) == set(summary.filters)
    for step, following in zip(summary.steps, summary.steps[1:], strict=False):
        assert max(step.without[name] for name in step.removed) <= 1
        if len(step.removed) == 1:
            assert following.accuracy == step.without[step.removed[0]]


def test_the_analysis_of_the_whole_network_agrees_with_it(finished, figures):
    summary = read_analysis_summary(ANALYSIS.directory(finished) / "summary.json")
    parameters = load_file(POPULATION.directory(finished) / "weights.safetensors")["parameters"][summary.member_seed]
    architecture = architecture_of(POPULATION, (16, 16), 3)
    with ImageStore.open(figures) as store:
        images = GreyImages(torch.from_numpy(store.images()[..., 0]), torch.from_numpy(store.labels))
        names = store.sources()
    outputs = TinyNetwork(architecture, parameters).module()(images.normalised()).argmax(1)
    wrong = torch.nonzero(outputs != images.labels).flatten().tolist()
    in_training = [row for row in wrong if names[row].startswith("train:")]
    assert summary.accuracy == pytest.approx(1 - len(in_training) / 240)
    assert {failure.image for failure in summary.failures} == {names[row] for row in wrong}
    maps = load_file(ANALYSIS.directory(finished) / "maps.safetensors")
    shown = [names.index(image.image) for image in summary.shown]
    first = torch.relu(TinyNetwork(architecture, parameters).module()[0](images.normalised()[shown]))
    torch.testing.assert_close(maps["layer1"], first, rtol=1e-5, atol=1e-6)


def test_images_are_chosen_by_size_and_their_sizes_known(finished):
    summary = read_analysis_summary(ANALYSIS.directory(finished) / "summary.json")
    assert len(summary.shown) == 27
    smallest, middle, largest = np.array([image.size for image in summary.shown if image.label == 0]).reshape(3, 3)
    assert smallest.max() < middle.min() < middle.max() < largest.min()
    assert sum(part.n_images for part in summary.sizes) == 330
    assert sum(part.n_correct for part in summary.sizes) == 330 - len(summary.failures)


def test_an_analysis_before_its_population_is_refused(execute):
    with pytest.raises(RunError, match=r"summary\.json: missing; the Run is not complete"):
        execute(ANALYSIS)


def test_an_analysis_names_damaged_weights(finished, execute, tmp_path):
    shutil.copytree(POPULATION.directory(finished), POPULATION.directory(tmp_path))
    weights = POPULATION.directory(tmp_path) / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-20])
    with pytest.raises(RunError, match=r"weights\.safetensors cannot be read"):
        execute(ANALYSIS)
    weights.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(
        RunError, match=r"weights\.safetensors is damaged: it differs from its digest; remove the Run's"
    ):
        execute(ANALYSIS)


def test_without_a_network_that_learnt_the_best_is_analysed_and_said_not_to_have_learnt(execute, tmp_path):
    short = replace(POPULATION, epochs=1, learning_rate=1e-6)
    execute(short, replace(ANALYSIS, population=short))
    population = read_population_summary(short.directory(tmp_path) / "summary.json")
    analysis = replace(ANALYSIS, population=short)
    summary = read_analysis_summary(analysis.directory(tmp_path) / "summary.json")
    accuracies = [member.validation_accuracy for member in population.members]
    assert not summary.learnt
    assert summary.member_seed == int(np.argmax(accuracies))


def test_images_that_no_network_fits_are_refused_by_the_runs_name():
    with pytest.raises(RunError, match=r"figures/4-3/.*must be at least 4x4; choose another data set"):
        architecture_of(POPULATION, (2, 2), 3)


def in_which_some_diverged(execute, results: Path, diverged: set[int]) -> None:
    """The population of the analysis; some of its members have no numbers left, the others have learnt nothing."""
    execute(POPULATION, results=results)
    directory = POPULATION.directory(results)
    weights = load_file(directory / "weights.safetensors")
    weights["parameters"][sorted(diverged)] = float("nan")
    save_file(weights, directory / "weights.safetensors")
    summary = read_population_summary(directory / "summary.json")
    members = [
        replace(member, train_loss=float("nan") if position in diverged else 1.1, validation_accuracy=1 / 3)
        for position, member in enumerate(summary.members)
    ]
    write_population_summary(directory / "summary.json", replace(summary, members=members))


def test_a_network_that_diverged_is_not_the_best(execute, tmp_path):
    in_which_some_diverged(execute, tmp_path, {0, 2})
    execute(ANALYSIS)
    analysed = read_analysis_summary(ANALYSIS.directory(tmp_path) / "summary.json")
    assert (analysed.member_seed, analysed.learnt) == (1, False)
    assert np.isfinite(analysed.scores["L1 norm"]).all()


def test_where_all_diverged_there_is_nothing_to_analyse(execute, tmp_path):
    in_which_some_diverged(execute, tmp_path, {0, 1, 2})
    with pytest.raises(RunError, match=r"every network diverged.*change `shapes\.setting` or leave this one out"):
        execute(ANALYSIS)
