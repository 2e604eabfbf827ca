"""What the study `frugal` asks for: Runs, features, chunks."""

import json
import os

import pytest

from pydyn.config.main import parse
from pydyn.errors import ConfigError
from pydyn.models.names import Backbone
from pydyn.plan import make_plan, weights_state
from pydyn.studies import registry
from pydyn.studies.frugal import feature_sets
from pydyn.studies.frugal_runs import FeatureSet, FineTuningRun, HeadRun
from pydyn.studies.pools import Pool

GROUPED = {"method": "group", "test": 0.3, "group": {"pattern": "(?P<group>a)"}}


def configuration(**changes):
    frugal = {"datasets": ["figures"], "replicates": 2, **changes}
    folder = {"source": "folder", "path": "nowhere", "split": GROUPED}
    return {
        "studies": ["frugal"],
        "datasets": {"figures": {"source": "shapes", "train": 60, "test": 30}, "patients": folder},
        "frugal": frugal,
    }


def test_every_part_of_the_method_on_and_off_and_the_rival():
    runs = registry.runs(parse(configuration()), "frugal")
    heads = [run for run in runs if isinstance(run, HeadRun)]
    assert len(heads) == 2 * 8
    assert {(run.adapted, run.settings[0].kind, run.weighted) for run in heads} == {
        (adapted, kind, weighted)
        for adapted in (False, True)
        for kind in ("linear", "redesigned")
        for weighted in (False, True)
    }
    assert all((setting.strength > 0) == run.weighted for run in heads for setting in run.settings)
    assert all(setting.seed == run.seed for run in heads for setting in run.settings)
    assert [run.seed for run in runs if isinstance(run, FineTuningRun)] == [0, 1]
    assert "figures/declared/efficientnet_lite0-imagenet/adapted-redesigned-weighted/seed1" in {run.id for run in runs}
    assert len({run.id for run in runs}) == len(runs)


def test_plain_features_serve_all_replicates_adapted_ones_their_own():
    config = parse(configuration())
    found = feature_sets(config)
    assert set(found) == {
        "figures/efficientnet_lite0-imagenet/plain",
        "figures/efficientnet_lite0-imagenet/adapted-declared-seed0",
        "figures/efficientnet_lite0-imagenet/adapted-declared-seed1",
    }
    chunks = registry.chunks(config, "frugal", {"figures": Pool(60, 54, exact=True)})
    in_chunks = [run for chunk in chunks for run in chunk.runs]
    assert sorted(run.id for run in in_chunks) == sorted(run.id for run in registry.runs(config, "frugal"))
    for chunk in chunks:
        heads = [run for run in chunk.runs if isinstance(run, HeadRun)]
        assert len({run.features for run in heads}) <= 1
        assert len(heads) in (0, len(chunk.runs))
        assert len(chunk.runs) == 1 or heads


def test_runs_are_what_their_dictionaries_say():
    for run in registry.runs(parse(configuration(search={"combinations": [2]})), "frugal"):
        again = type(run).from_dict(json.loads(json.dumps(run.to_dict())))
        assert again == run
        assert again.digest == run.digest
        if isinstance(run, HeadRun):
            assert FeatureSet.from_dict(json.loads(json.dumps(run.features.to_dict()))) == run.features


def test_larger_searches_begin_with_smaller_ones():
    runs = registry.experiments(parse(configuration(search={"combinations": [3, 9, 27]})), "frugal")["search"]
    assert [len(run.settings) for run in runs] == [3, 9, 27]
    assert runs[1].settings[:3] == runs[0].settings
    assert runs[2].settings[:9] == runs[1].settings
    assert len(set(runs[2].settings)) == 27


def test_every_form_of_the_ambiguity_weight_can_be_declared():
    forms = {"strength": 2.0, "threshold": 0.25, "normalisation": "weighted_mean"}
    runs = registry.runs(parse(configuration(heads=forms, search={"combinations": [3]})), "frugal")
    heads = [run for run in runs if isinstance(run, HeadRun)]
    assert {run.purpose for run in heads} == {"ablation", "search"}
    for run in heads:
        assert {(one.threshold, one.normalisation) for one in run.settings} == {(0.25, "weighted_mean")}
    assert {one.strength for run in heads if run.purpose == "ablation" for one in run.settings} == {0.0, 2.0}


def test_images_are_torn_from_their_groups_only_where_there_are_groups():
    config = parse(configuration(datasets=["figures", "patients"], splits=["declared", "image"]))
    found = {(run.dataset, run.splits) for run in registry.runs(config, "frugal")}
    assert found == {("figures", "declared"), ("patients", "declared"), ("patients", "image")}


def test_without_fine_tuning():
    assert "fine-tuning" not in registry.experiments(parse(configuration(fine_tuning=None)), "frugal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ["unknown"]}, r"frugal.datasets = 'unknown' is not declared, allowed are: figures, patients"),
        ({"backbones": [{"name": "resnet19"}]}, "backbone 'resnet19' is unknown"),
        ({"backbones": [{"name": "resnet18", "size": 3}]}, r"frugal.backbones\[0\].size: unknown key"),
        ({"backbones": [{"name": "resnet18"}, {"name": "resnet18"}]}, "resnet18-imagenet is listed more than once"),
        ({"adaptation": {"momentum": 2.0}}, "momentum = 2.0 must be above 0 and at most 1"),
        ({"adaptation": {"batch_size": 1}}, "frugal.adaptation: batch_size = 1 must be at least 2"),
        ({"fine_tuning": {"batch_size": 1}}, "frugal.fine_tuning: batch_size = 1 must be at least 2"),
        ({"fine_tuning": {"learning_rates": [0.1, 0.1]}}, "learning_rates = .* must name each number once"),
        ({"extraction": {"shards": 0}}, "shards = 0 must be from 1"),
        ({"heads": {"dropout": 1.0}}, "frugal.heads.dropout = 1.0"),
        ({"heads": {"learning_rates": []}}, "frugal.heads.learning_rates"),
        ({"fine_tuning": {"learning_rates": [0.0]}}, "learning_rates = .* above 0"),
        ({"replicates": 0}, "frugal.replicates = 0"),
        ({"country": "Spain"}, "frugal.country"),
        ({"search": {"combinations": [0]}}, "frugal.search.combinations"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse(configuration(**changes))


def test_a_file_of_weights_is_told_from_one_put_in_its_place(tmp_path):
    assert weights_state(Backbone("resnet18")) == weights_state(Backbone("resnet18", "none")) == ""
    file = tmp_path / "mine.pt"
    file.write_bytes(b"one")
    states = [weights_state(Backbone("resnet18", str(file)))]
    os.utime(file, (0, 0))
    states.append(weights_state(Backbone("resnet18", str(file))))
    file.write_bytes(b"another")
    os.utime(file, (0, 0))
    states.append(weights_state(Backbone("resnet18", str(file))))
    assert len(set(states)) == 3


def test_what_only_a_look_around_tells_is_refused_at_planning(tmp_path):
    with pytest.raises(ConfigError, match=r"weights = '.*gone\.pth' of resnet18 are no file here"):
        make_plan(configuration(backbones=[{"name": "resnet18", "weights": str(tmp_path / "gone.pth")}]))
    with pytest.raises(ConfigError, match="country = 'XXX' must be a code of three letters"):
        make_plan(configuration(country="XXX"))
