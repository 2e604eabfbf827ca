"""What the study `shapes` trains and analyses."""

import csv
from collections import Counter
from importlib import resources
from itertools import product

import pytest

from pydyn.config.main import load, overlay, parse, read
from pydyn.errors import ConfigError
from pydyn.studies import registry
from pydyn.studies.pools import Pool
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun


def configuration(**changes):
    shapes = {
        "trainings": [
            {"dataset": "figures", "epochs": 3, "filters": ["2-2", "16-4"]},
            {"dataset": "figures", "epochs": 5, "filters": ["2-2", "4"]},
        ],
        "replicates": 4,
    }
    return {
        "studies": ["shapes"],
        "datasets": {"figures": {"source": "shapes", "train": 60, "test": 30}},
        "shapes": shapes | changes,
    }


def refused(raw, *parts):
    with pytest.raises(ConfigError) as error:
        parse(raw)
    for part in parts:
        assert part in str(error.value)


def test_every_combination_is_a_population():
    runs = registry.runs(parse(configuration()), "shapes")
    assert [(run.filters, run.epochs, run.members) for run in runs] == [
        ("2-2", 3, 4),
        ("16-4", 3, 4),
        ("2-2", 5, 4),
        ("4", 5, 4),
    ]
    assert [run.layers for run in runs] == [(2, 2), (16, 4), (2, 2), (4,)]


def test_causes_are_every_combination_of_their_factors():
    cause = {"dataset": "figures", "filters": "2-2", "epochs": 3, "initialisers": ["normal_1", "he_normal"]}
    lists = registry.experiments(parse(configuration(causes=[cause])), "shapes")
    causes = lists["causes"]
    assert len(set(causes)) == len(causes) == 2 * 6 * 2 * 2 * 2
    optimisers = {(run.optimiser, run.learning_rate) for run in causes}
    assert optimisers == set(product(("adam", "rmsprop", "sgd"), (1e-3, 1e-2)))
    assert {run.members for run in causes} == {20}


def test_an_analysis_is_of_the_population_trained_on_its_data_set():
    config = parse(configuration(analyses=[{"dataset": "figures", "filters": "16-4"}]))
    (analysis,) = registry.experiments(config, "shapes")["analyses"]
    assert analysis.population in registry.experiments(config, "shapes")["trainings"]
    assert analysis.dataset == "figures"
    assert AnalysisRun.from_dict(analysis.to_dict()) == analysis
    assert PopulationRun.from_dict(analysis.population.to_dict()) == analysis.population


def test_every_run_is_in_one_chunk_and_analyses_are_in_chunks_of_their_own():
    config = parse(configuration(analyses=[{"dataset": "figures", "filters": "16-4"}]))
    chunks = registry.chunks(config, "shapes", {"figures": Pool(60, 54, exact=True)})
    runs = [run for chunk in chunks for run in chunk.runs]
    assert Counter(runs) == Counter(registry.runs(config, "shapes"))
    for chunk in chunks:
        analyses = [run for run in chunk.runs if isinstance(run, AnalysisRun)]
        assert not analyses or (len(chunk.runs) == 1 and chunk.name.startswith("analysis__"))


def test_more_filters_make_smaller_chunks():
    def n_chunks(filters):
        trainings = [{"dataset": "figures", "epochs": epochs, "filters": [filters]} for epochs in range(40, 60)]
        config = parse(configuration(trainings=trainings) | {"chunk_images": 10_000})
        return len(registry.chunks(config, "shapes", {"figures": Pool(6000, 5400, exact=True)}))

    assert n_chunks("2-2") < n_chunks("32-32") == 20


@pytest.mark.parametrize("filters", ["65-2", "0", "2-2-2", "two", "2-", "02"])
def test_filters_that_no_network_has_are_refused(filters):
    trainings = [{"dataset": "figures", "epochs": 1, "filters": [filters]}]
    refused(configuration(trainings=trainings), "shapes.trainings[0].filters[0]", repr(filters), "1 to 64, as 16-4")


def test_a_data_set_that_is_not_declared_is_refused():
    trainings = [{"dataset": "other", "epochs": 1, "filters": ["2"]}]
    refused(configuration(trainings=trainings), "shapes.trainings[0].dataset = 'other' is not declared", "figures")


def test_an_analysis_of_what_is_not_trained_is_refused():
    refused(configuration(analyses=[{"dataset": "figures", "filters": "8-8"}]), "analyses[0]: 8-8", "add it there")


def test_an_analysis_that_could_be_of_two_populations_is_refused_until_it_says_which():
    analysis = {"dataset": "figures", "filters": "2-2"}
    refused(configuration(analyses=[analysis]), "2-2 on 'figures' is trained more than once; give `epochs`: 3 or 5")
    config = parse(configuration(analyses=[analysis | {"epochs": 5}]))
    (run,) = registry.experiments(config, "shapes")["analyses"]
    assert run.population.epochs == 5


def test_causes_listed_twice_are_refused():
    cause = {"dataset": "figures", "filters": "2-2", "epochs": 3}
    causes = [cause | {"replicates": 3}, cause]
    refused(configuration(causes=causes), "causes lists 2-2 on 'figures' for 3 epochs more than once")


def test_a_combination_listed_twice_is_refused():
    trainings = [{"dataset": "figures", "epochs": 1, "filters": ["2-2"]}] * 2
    refused(configuration(trainings=trainings), "2-2 on 'figures' for 1 epochs more than once")


def test_the_preset_has_every_combination_of_the_thesis_and_its_analyses():
    config = parse(overlay(read("config.yaml"), read("workflow/presets/shapes-cpu.yaml")))
    lists = registry.experiments(config, "shapes")
    trained = {(run.dataset, run.filters, run.epochs) for run in lists["trainings"]}
    folder = resources.files("pydyn.report") / "reference"
    published = set()
    for name in ("shapes_trainings.csv", "shapes_one_layer.csv"):
        for row in csv.DictReader((folder / name).read_text().splitlines()):
            filters = "-".join(filter(None, [row["filters1"], row["filters2"]]))
            published.add((f"shapes-{row['dataset']}", filters, int(row["epochs"])))
    assert published <= trained
    assert {run.members for run in lists["trainings"]} == {20}
    analysed = {(run.dataset, run.population.filters, run.population.epochs) for run in lists["analyses"]}
    thesis = {
        ("shapes-1.3", "16-4", 40),
        ("shapes-1.3", "2-16", 40),
        ("shapes-2.1", "16-16", 70),
        ("shapes-2.1", "8-4", 70),
    }
    assert thesis <= analysed
    assert load("config.yaml").shapes is not None
