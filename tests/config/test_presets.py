"""Presets lie over the demo's configuration, whose values they must not take over unawares."""

from pathlib import Path

import pytest

from pydyn.config.main import overlay, parse, read
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.pools import Pool
from pydyn.studies.registry import experiments, runs

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


@pytest.mark.parametrize("name", ["ci", "cifar-cpu", "paper"])
def test_all_four_experiments_run_in_every_preset_of_the_study(name):
    listed = experiments(preset(name), "dynamic")
    assert list(listed) == ["grid", "comparison", "robustness", "augmentation"]
    if name != "paper":
        # Replicates cost nothing there.
        assert set(listed["robustness"]) < set(listed["comparison"])


def test_cifar_on_a_cpu_stays_within_two_hours():
    config = preset("cifar-cpu")
    assert config.dynamic.grid.gamma == [0.97, 1.0]
    pool = Pool(5600, 5040, exact=True)
    trained = sum(run.epochs * pool.subset_size(run) for run in runs(config, "dynamic"))
    # 3.75 million took 83 minutes on 2 cores of an EPYC; on a Xeon with AMX 4.94 million took 75.
    assert trained * 83 / 3_745_280 <= 110


BASE, BEST_SET = (Dynamic(scheme=scheme, alpha=25000, beta=0.7, gamma=0.97) for scheme in ("base", "best-set"))
HALF = Fixed(alpha=25000)


def trained(config, experiment):
    """How many Runs of each strategy and number of epochs, under each protocol."""
    counts = {}
    for run in experiments(config, "dynamic")[experiment]:
        rows = counts.setdefault(run.protocol, {})
        rows[run.strategy, run.epochs] = rows.get((run.strategy, run.epochs), 0) + 1
    assert counts["paper"] == counts["holdout"] and len(counts) == 2
    return counts["paper"]


def test_the_published_grid_is_trained_whole_with_and_without_decay():
    cells = trained(preset("paper"), "grid")
    published = {
        (Dynamic(scheme="base", alpha=alpha, beta=beta, gamma=gamma), 200): 3
        for alpha in (15000, 20000, 25000)
        for beta in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
        for gamma in (0.97, 1.0)
    }
    assert cells == published
    assert {(strategy.delta, strategy.trigger, strategy.replacements) for strategy, _ in cells} == {
        (0.01, "absolute", "uniform")
    }


def test_every_row_of_table_4_and_figure_11_is_trained():
    rows = trained(preset("paper"), "comparison")
    published = [(Full(), 200), (HALF, 200), (BASE, 200), (BEST_SET, 80), (BEST_SET, 200)]  # the last of paper b
    assert {row: rows.get(row) for row in published} == dict.fromkeys(published, 5)
    assert len(rows) == 10 and set(rows.values()) == {5}


def test_replicates_are_as_many_as_published():
    config = preset("paper")
    assert trained(config, "robustness") == {(Full(), 80): 20, (BEST_SET, 80): 20}
    assert trained(config, "augmentation") == {(Full(), 80): 20, (HALF, 80): 20, (BEST_SET, 80): 20}
    for experiment, listed in experiments(config, "dynamic").items():
        assert {run.augmentation for run in listed} == {"crop-flip" if experiment == "augmentation" else "none"}


def test_the_published_scale_of_the_study_dynamic_in_runs():
    config = preset("paper")
    listed = runs(config, "dynamic")
    assert {name: len(found) for name, found in experiments(config, "dynamic").items()} == {
        "grid": 252,
        "comparison": 100,
        "robustness": 80,
        "augmentation": 120,
    }
    # Of the comparison's five replicates, the grid has three of the base scheme's and experiment 3 all of best-set's, twice.
    assert len(listed) == len(set(listed)) == 252 + 100 + 80 + 120 - 2 * (3 + 5)
    setting = {(run.dataset, run.model, run.batch_norm, run.batch_size, run.learning_rate) for run in listed}
    assert setting == {("cifar10", "cnn_a", False, 512, 1e-3)}
    dataset = config.datasets["cifar10"]
    assert (dataset.source, dataset.name, dataset.split.validation) == ("torchvision", "CIFAR10", 0.1)
    assert (dataset.limit.train, dataset.limit.test) == (None, None)
