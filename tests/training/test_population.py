"""Populations in training: resumed bit for bit, alone or among others, what an epoch tells."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.errors import RunError
from pydyn.models.tiny import TinyCNN
from pydyn.ops.extension import EXTENSION
from pydyn.training.population import Member, Population, images_of

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")
ARCHITECTURE = TinyCNN((4, 4), (16, 16))
MEMBERS = [
    Member(0),
    Member(1, 3e-3, "he_normal", "rmsprop"),
    Member(2, 0.03, "normal_0.05", "sgd"),
    Member(0, 1e-2, "normal_1"),
]


@pytest.fixture(scope="module")
def images(store):
    with ImageStore.open(store) as opened:
        return images_of(opened, "train", "validation"), images_of(opened, "test")


def population(images, members=MEMBERS, architecture=ARCHITECTURE, **options):
    return Population(architecture, members, *images, batch_size=16, **options)


def rows(epochs):
    """Every number of some epochs."""
    return [
        np.concatenate([np.ravel(value) for name, value in vars(epoch).items() if name != "epoch"]) for epoch in epochs
    ]


def saved(state):
    """What is left of a state on its way through a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("options", [{}, {"clipped": True}])
def test_resumed_between_any_two_epochs_it_ends_the_same(images, options):
    whole = population(images, **options)
    expected = [whole.run_epoch() for _ in range(4)]
    for done in (0, 1, 3):
        first = population(images, **options)
        begun = [first.run_epoch() for _ in range(done)]
        second = population(images, **options)
        second.load_state_dict(saved(first.state_dict()))
        ended = begun + [second.run_epoch() for _ in range(4 - done)]
        assert [epoch.epoch for epoch in ended] == [1, 2, 3, 4]
        for ours, theirs in zip(rows(ended), rows(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for name in ("parameters", "best_parameters"):
            assert torch.equal(getattr(second, name), getattr(whole, name))
        np.testing.assert_array_equal(second.best_epoch, whole.best_epoch)
        np.testing.assert_array_equal(second.best_accuracy, whole.best_accuracy)


def test_a_state_is_a_copy(images):
    training = population(images)
    state = training.state_dict()
    before = state["parameters"].clone()
    training.run_epoch()
    assert torch.equal(state["parameters"], before)


@needs_extension
@pytest.mark.parametrize("chosen", range(len(MEMBERS)))
def test_a_member_is_the_same_alone(images, chosen):
    together, alone = population(images), population(images, [MEMBERS[chosen]])
    for _ in range(2):
        ours, theirs = alone.run_epoch(), together.run_epoch()
        for name in ("train_loss", "validation_accuracy", "dead_filters"):
            np.testing.assert_array_equal(getattr(ours, name)[0], getattr(theirs, name)[chosen])
    assert torch.equal(alone.parameters[0], together.parameters[chosen])


def test_members_differ_by_seed_alone_and_draw_from_no_global_generator(images, global_generators):
    before = global_generators()
    training = population(images, [Member(0), Member(1), Member(0, 1e-2)])
    assert torch.equal(training.parameters[0], training.parameters[2])
    assert not torch.equal(training.parameters[0], training.parameters[1])
    training.run_epoch()
    assert not torch.equal(training.parameters[0], training.parameters[2])
    assert global_generators() == before


def test_learns_figures_and_keeps_the_best_weights(images):
    training = population(images, [Member(seed, 5e-3) for seed in range(4)])
    accuracies = np.stack([training.run_epoch().validation_accuracy for _ in range(60)])
    assert np.median(accuracies[-1]) > 0.85
    np.testing.assert_array_equal(training.best_accuracy, accuracies.max(0))
    np.testing.assert_array_equal(training.best_epoch, accuracies.argmax(0) + 1)
    for member, parameters in enumerate(training.best_parameters):
        outputs = ARCHITECTURE.module(parameters)(images[1].normalised())
        assert (outputs.argmax(1) == images[1].labels).double().mean() == training.best_accuracy[member]


def test_the_first_of_equally_good_epochs_is_kept(images):
    dead = TinyCNN((2, 2), (16, 16), output_relu=True)
    training = population(images, [Member(0)], dead)
    parts = dead.split(training.parameters)
    parts["dense.bias"].fill_(-1e3)
    for _ in range(3):
        epoch = training.run_epoch()
    assert training.best_epoch.tolist() == [1]
    assert epoch.dead_outputs.tolist() == [3]
    assert epoch.unpredicted_classes.tolist() == [2]
    assert epoch.validation_accuracy.tolist() == [pytest.approx(1 / 3)]
    assert epoch.train_loss.tolist() == [pytest.approx(np.log(3))]


def test_dead_filters_are_counted_by_layer(images):
    training = population(images, [Member(0), Member(1)])
    parts = ARCHITECTURE.split(training.parameters)
    parts["conv1.bias"][0, :3] = -1e3
    parts["conv2.bias"][1, 2] = -1e3
    assert training.run_epoch().dead_filters.tolist() == [[3, 0], [0, 1]]


def test_a_single_layer_trains_too(images):
    training = population(images, [Member(0)], TinyCNN((8,), (16, 16)))
    first, *_, last = [training.run_epoch() for _ in range(6)]
    assert first.dead_filters.shape == (1, 1)
    assert last.train_loss < first.train_loss


def test_images_of_a_store(tmp_path, store, images):
    train, test = images
    with ImageStore.open(store) as opened:
        assert len(train) + len(test) == opened.n_images
        index = opened.indices("test")
        np.testing.assert_array_equal(test.pixels.numpy(), opened.images(index)[..., 0])
        np.testing.assert_array_equal(test.labels.numpy(), opened.labels[index])
        scaled = images_of(opened, "test", mean=opened.mean[0], std=opened.std[0])
    normal = (test.pixels.double() / 255 - opened.mean[0]) / opened.std[0]
    torch.testing.assert_close(scaled.normalised()[:, 0].double(), normal, rtol=1e-5, atol=1e-5)


def test_images_with_colours_are_refused(tmp_path):
    from PIL import Image

    from pydyn.config.datasets import FolderDataset, Split

    for number in range(8):
        path = tmp_path / "coloured" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    declared = FolderDataset(source="folder", path="coloured", split=Split(method="stratified", test=0.25))
    prepare("coloured", declared, tmp_path, tmp_path / "coloured.h5")
    with ImageStore.open(tmp_path / "coloured.h5") as opened, pytest.raises(RunError, match="see grey images"):
        images_of(opened, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed = -1 must be at least 0"),
        ({"seed": 0, "learning_rate": 0.0}, "learning_rate = 0.0 must be above 0"),
        ({"seed": 0, "learning_rate": float("nan")}, "learning_rate = nan must be above 0"),
        ({"seed": 0, "initialiser": "zeros"}, "initialiser = 'zeros' is unknown, allowed are glorot_uniform"),
        ({"seed": 0, "optimiser": "lion"}, "optimiser = 'lion' is unknown, allowed are sgd, rmsprop, adam"),
    ],
)
def test_members_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Member(**arguments)


def test_populations_that_cannot_be_are_refused(images):
    train, validation = images
    with pytest.raises(ValueError, match="needs at least one"):
        Population(ARCHITECTURE, [], train, validation)
    with pytest.raises(ValueError, match="validation: holds no images"):
        Population(ARCHITECTURE, MEMBERS, train, validation.take(torch.arange(0)))
    with pytest.raises(ValueError, match=r"train: images of \(16, 16\) do not fit a network for \(28, 28\)"):
        Population(TinyCNN((2, 2)), MEMBERS, train, validation)
    with pytest.raises(ValueError, match="batch_size = 0"):
        Population(ARCHITECTURE, MEMBERS, train, validation, batch_size=0)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"members": MEMBERS[:2]}, "members"),
        ({"architecture": TinyCNN((4, 5), (16, 16))}, "architecture"),
        ({"architecture": TinyCNN((4, 4), (16, 16), output_relu=True)}, "architecture"),
        ({"clipped": True}, "clipped"),
    ],
)
def test_states_of_others_are_refused(images, change, what):
    state = population(images).state_dict()
    with pytest.raises(RunError, match=f"is of another {what}"):
        population(images, **change).load_state_dict(state)


def test_other_defaults_of_torch_change_nothing(images, other_defaults):
    with other_defaults():
        within = population(images)
        within.run_epoch()
    outside = population(images)
    outside.run_epoch()
    assert torch.equal(within.parameters, outside.parameters)


@pytest.mark.parametrize("state", [None, {"epoch": 3}])
def test_what_is_no_state_is_refused(images, state):
    with pytest.raises(RunError, match="is of another architecture"):
        population(images).load_state_dict(state)


STICKING = [
    *(Member(seed, 1e-2) for seed in range(8)),
    *(Member(seed, 1e-2, "normal_1", "rmsprop") for seed in range(4)),
    *(Member(seed, 1e-2, "normal_1", "sgd") for seed in range(4)),
]


@needs_extension
def test_members_passed_over_end_as_if_they_were_trained(images, monkeypatch):
    """Bytes as they are and a clipped loss: most trainings lose every gradient within a few epochs."""
    as_bytes = tuple(replace(part, std=1 / 255) for part in images)
    n_epochs = 12
    ours = population(as_bytes, STICKING, clipped=True)
    theirs = population(as_bytes, STICKING, clipped=True)
    settled = []
    for _ in range(n_epochs):
        passing_over = ours.run_epoch()
        settled.append(ours.settled)
        monkeypatch.setattr(theirs, "_settled", np.zeros(len(STICKING), dtype=bool))
        trained = theirs.run_epoch()
        assert torch.equal(ours.parameters, theirs.parameters)
        for name, value in vars(trained).items():
            np.testing.assert_allclose(getattr(passing_over, name), value, rtol=1e-12)
    assert settled[n_epochs // 2].sum() >= 3, "the test needs trainings that stick"
    assert not ours.settled.all()
    for before, after in itertools.pairwise(settled):
        assert (after >= before).all()


@needs_extension
def test_members_passed_over_stay_so_across_a_state(images):
    as_bytes = tuple(replace(part, std=1 / 255) for part in images)
    whole = population(as_bytes, STICKING, clipped=True)
    for _ in range(6):
        whole.run_epoch()
    resumed = population(as_bytes, STICKING, clipped=True)
    resumed.load_state_dict(saved(whole.state_dict()))
    np.testing.assert_array_equal(resumed.settled, whole.settled)
    assert whole.settled.any()
    np.testing.assert_array_equal(rows([resumed.run_epoch()])[0], rows([whole.run_epoch()])[0])
