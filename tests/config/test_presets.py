"""Presets lie over the demo's configuration, whose values they must not take over unawares."""

from pathlib import Path

import pytest

from pydyn.config.main import overlay, parse, read

ROOT = Path(__file__).parents[2]


def preset(name):
    return parse(overlay(read(ROOT / "config.yaml"), read(ROOT / "workflow" / "presets" / f"{name}.yaml")))


@pytest.mark.parametrize("scale", ["shapes-cpu", "paper"])
@pytest.mark.parametrize("name", ["shapes-1.2", "shapes-1.3", "shapes-2.1"])
def test_the_theses_sets_are_whole(scale, name):
    dataset = preset(scale).datasets[name]
    assert (dataset.train, dataset.test, dataset.image_size) == (6000, 3000, 28)


def test_real_images_are_seen_at_the_size_that_the_weights_were_made_for():
    study = preset("frugal-cpu").frugal
    assert [(backbone.name, backbone.input_size) for backbone in study.backbones] == [("efficientnet_lite0", 224)]
    assert study.fine_tuning.learning_rates == (3e-4, 1e-4)
    assert study.search.combinations == [10, 40, 160]


def test_the_thesis_is_run_whole_on_a_cpu_already():
    assert preset("paper").shapes == preset("shapes-cpu").shapes


@pytest.mark.parametrize(("scale", "replicates"), [("architectures-cpu", 3), ("paper", 5)])
def test_the_published_size_of_the_study_architectures(scale, replicates):
    study = preset(scale).architectures
    assert (study.epochs, study.replicates, study.grid.share) == (10, replicates, 0.8)
    assert (study.grid.epochs, study.grid.batch_sizes, study.grid.learning_rates) == (
        [5, 10, 15],
        [32, 64, 128],
        [1e-2, 1e-3, 1e-4],
    )


@pytest.mark.parametrize("name", ["cifar-cpu", "paper"])
def test_published_settings_of_the_study_dynamic(name):
    study = preset(name).dynamic
    assert study.learning_rate == 1e-3
    assert set(study.protocols) == {"paper", "holdout"}
