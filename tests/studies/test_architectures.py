"""What the study `architectures` trains."""

import pytest

from pydyn.config.main import parse
from pydyn.errors import ConfigError
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.studies import registry
from pydyn.studies.pools import Pool


def configuration(**changes):
    return {
        "studies": ["architectures"],
        "datasets": {"images": {"source": "torchvision", "name": "CIFAR10"}},
        "architectures": {"dataset": "images", **changes},
    }


def test_the_sources_trainings_and_the_same_under_dynamic_training():
    lists = registry.experiments(parse(configuration(replicates=2)), "architectures")
    settings = {
        (run.model, run.batch_size, run.learning_rate, run.epochs, run.augmentation) for run in lists["networks"]
    }
    assert settings == {
        ("base", 32, 1e-3, 10, "none"),
        ("deeper", 32, 1e-3, 10, "none"),
        ("normalised", 64, 1e-3, 10, "rotate-shift-flip"),
    }
    assert all(run.strategy == Full() and run.protocol == "paper" for run in lists["networks"])
    assert len(lists["networks"]) == 2 * 3
    assert {(run.model, run.seed) for run in lists["strategies"]} == {
        (run.model, run.seed) for run in lists["networks"]
    }
    assert all(isinstance(run.strategy, Dynamic) for run in lists["strategies"])


def test_the_grid_has_the_published_27_cells_on_four_fifths_of_the_images():
    from pydyn.report.published import architectures_grid

    grid = registry.experiments(parse(configuration()), "architectures")["grid"]
    assert len(grid) == 27
    assert {(run.learning_rate, run.batch_size, run.epochs) for run in grid} == set(architectures_grid())
    assert all(run.model == "base" and run.strategy == Fixed(alpha=0.8) for run in grid)


def test_every_run_has_an_id_of_its_own_and_is_in_one_chunk():
    config = parse(configuration())
    runs = registry.runs(config, "architectures")
    pools = {"images": Pool(50_000, 45_000, exact=True)}
    in_chunks = [run for chunk in registry.chunks(config, "architectures", pools) for run in chunk.runs]
    assert len({run.id for run in runs}) == len(runs) == 3 * 3 + 27 + 3 * 3
    assert in_chunks == runs


def test_parts_may_be_left_out():
    lists = registry.experiments(parse(configuration(grid=None, strategies=[])), "architectures")
    assert set(lists) == {"networks"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "none"}, r"architectures.dataset = 'none' is not declared, allowed are: images"),
        ({"grid": {"share": 1.5}}, "architectures.grid.share = 1.5"),
        ({"grid": {"learning_rates": [0]}}, "architectures.grid.learning_rates"),
        ({"strategies": [{"name": "nothing"}]}, "architectures.strategies"),
        ({"epoch": 3}, "architectures.epoch: unknown key"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse(configuration(**changes))


def test_rates_that_ids_do_not_tell_apart_are_refused():
    config = parse(configuration(grid={"learning_rates": [0.002, 0.00200000001]}))
    with pytest.raises(ConfigError, match=r"learning_rate = 0.002 of architectures.grid and 0.00200000001 of"):
        registry.runs(config, "architectures")
