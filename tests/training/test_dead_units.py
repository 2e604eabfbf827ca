"""What of a network is dead, counted by hand; confusion; dropout from a Run's own draws."""

import pytest
import torch
from torch import nn

from pydyn.config.datasets import ShapesDataset
from pydyn.data.prepare import prepare
from pydyn.ops import ReLUMaxPool
from pydyn.selection.controls import Full
from pydyn.training.dead_units import dead_units, watch_units
from pydyn.training.execute import execute
from pydyn.training.summary import DeadUnits, read_summary


def test_units_that_never_rise_above_zero_are_counted():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), ReLUMaxPool(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1, 1)
        network[0].bias[:] = torch.tensor([0.0, -1.0, 0.0])  # the second never
        network[3].weight.zero_()
        network[3].bias[:] = torch.tensor([1.0, -1.0, 0.0, -2.0])  # the first alone
    images = torch.zeros(2, 1, 4, 4)
    with watch_units(network) as highest:
        images[0, 0, 0, 0] = 1  # lets the first filter through
        network(images[:1])
        images[1, 0, 0, 0] = -1
        images[1] -= 0.1  # lets the third filter through
        network(images[1:])
    assert dead_units(highest) == [DeadUnits(1, 3, 1), DeadUnits(4, 4, 3)]
    network(images)
    assert not any(layer._forward_hooks for layer in network)


@pytest.fixture(scope="module")
def large_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    prepare("tiny", ShapesDataset(source="shapes", train=90, test=30, image_size=28), None, path)
    return path


def train(run, tmp_path, store, cpu, stop=lambda: False):
    execute([run], tmp_path, store, cpu, lambda line: None, stop)
    return run.directory(tmp_path)


def test_summaries_hold_confusion_and_dead_units_of_the_last_epoch(tmp_path, large_store, cpu, make_run):
    run = make_run(model="base", strategy=Full(), learning_rate=0.5, precision="fp32")  # kills what it touches
    summary = read_summary(train(run, tmp_path, large_store, cpu) / "summary.json")
    assert sum(map(sum, summary.confusion)) == 30
    assert [sum(row) for row in summary.confusion] == [10, 10, 10]
    right = sum(summary.confusion[label][label] for label in range(3))
    assert right / 30 == pytest.approx(summary.accuracy.last_validation)
    assert [(layer.layer, layer.units) for layer in summary.dead_units] == [(2, 32), (5, 128)]
    assert summary.dead_units[1].dead > 100
    sound = read_summary(train(make_run(model="base", strategy=Full()), tmp_path, large_store, cpu) / "summary.json")
    assert sound.dead_units[1].dead < 64


def test_a_network_that_diverged_takes_no_image_for_anything(tmp_path, large_store, cpu, make_run):
    run = make_run(model="base", strategy=Full(), learning_rate=1e30, precision="fp32")
    summary = read_summary(train(run, tmp_path, large_store, cpu) / "summary.json")
    assert summary.accuracy.last_validation == 0
    assert summary.confusion == [[0, 0, 0]] * 3


def test_dropout_draws_anew_each_epoch_the_same_in_every_sitting(tmp_path, large_store, cpu, make_run):
    from pydyn.errors import Stopped

    run = make_run(model="deeper", strategy=Full(), epochs=3)
    state = torch.random.get_rng_state()
    whole = (train(run, tmp_path / "whole", large_store, cpu) / "weights.safetensors").read_bytes()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)  # another state of the global generator
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        train(run, tmp_path / "resumed", large_store, cpu, lambda: next(asked))
    assert (train(run, tmp_path / "resumed", large_store, cpu) / "weights.safetensors").read_bytes() == whole


@pytest.mark.parametrize("augmentation", ["crop-flip", "rotate-shift-flip"])
def test_images_are_scaled_as_the_network_expects(tmp_path, large_store, cpu, make_run, augmentation):
    from pydyn.data.batches import ResidentImages
    from pydyn.data.store import ImageStore

    with ImageStore.open(large_store) as store:
        images = ResidentImages.from_store(store, torch.device("cpu"))
    plain = images.scaled("unit")
    index = torch.arange(5)
    assert torch.equal(plain.batch(index).mul(255).round().byte(), images._images[index].permute(0, 3, 1, 2))
    assert torch.equal(images.scaled("standard").batch(index), images.batch(index))
    assert torch.equal(images.scaled("standard", torch.bfloat16).batch(index), images.batch(index).bfloat16())
    changed = plain.augmented_batch(index, augmentation, 0, 1)
    assert not torch.equal(changed, plain.batch(index))
    assert changed.min() >= 0 and changed.max() <= 1
