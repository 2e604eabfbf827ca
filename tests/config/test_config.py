"""Configuration: presets that hold, and every mistake refused by key and value."""

import copy
import json
import tarfile
from datetime import date
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydyn.config.main import Config, json_schema, load, load_of_results, parse, read
from pydyn.errors import ConfigError
from pydyn.plan import make_plan
from pydyn.studies import registry
from pydyn.studies.pools import Pool
from pydyn.studies.run import Run

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "workflow" / "presets").glob("*.yaml"))


@pytest.fixture
def raw():
    return {
        "studies": ["dynamic"],
        "datasets": {"tiny": {"source": "shapes", "train": 100, "test": 30}},
        "dynamic": {
            "dataset": "tiny",
            "protocols": ["paper"],
            "epochs": 2,
            "grid": {"alpha": [0.3, 0.5], "beta": [0.2], "gamma": [0.97]},
            "comparison": {"trials": [{"strategy": {"name": "full"}}, {"strategy": {"name": "fixed", "alpha": 50}}]},
        },
    }


def changed(raw, path, value):
    raw = copy.deepcopy(raw)
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return raw


def refusal(raw):
    with pytest.raises(ConfigError) as error:
        make_plan(raw)
    return str(error.value)


MISTAKES = [
    # (where, value, what the one line must say)
    (["fooo"], 1, ["fooo: unknown key"]),
    (["dynamic", "epoch"], 1, ["dynamic.epoch: unknown key", "did you mean 'epochs'?"]),
    (["dynamic", "grid", "betas"], [0.1], ["dynamic.grid.betas: unknown key", "'beta'"]),
    (["dynamic", "comparison", "trials", 1, "strategy", "alhpa"], 1, ["trials[1].strategy.alhpa: unknown key"]),
    (["dynamic", "epochs"], "10", ["dynamic.epochs = '10'", "valid integer"]),
    (["dynamic", "epochs"], 0, ["dynamic.epochs = 0", "greater than or equal to 1"]),
    (["dynamic", "epochs"], 2.5, ["dynamic.epochs = 2.5", "integer"]),
    (["dynamic", "learning_rate"], "1e-3", ["dynamic.learning_rate = '1e-3'", "write 1.0e-3"]),
    (["dynamic", "batch_norm"], "yes", ["dynamic.batch_norm = 'yes'", "boolean"]),
    (["dynamic", "model"], "resnet", ["dynamic.model = 'resnet'", "'cnn_a' or 'cnn_b'"]),
    (["dynamic", "protocols"], [], ["dynamic.protocols = []", "at least 1 item"]),
    (["dynamic", "grid", "beta"], [1.2], ["dynamic.grid", "beta = 1.2 must be in [0, 1]"]),
    (["dynamic", "grid", "beta"], [-0.1], ["dynamic.grid", "beta = -0.1 must be in [0, 1]"]),
    (["dynamic", "grid", "gamma"], [1.5], ["dynamic.grid", "gamma = 1.5"]),
    (
        ["dynamic", "grid", "gamma"],
        [0.5, 1.0, 0.9999999],
        ["dynamic.grid.gamma: 1.0 and 0.9999999 are the same in six digits", "choose values that differ in them"],
    ),
    (["dynamic", "grid", "alpha"], [200], ["dynamic.grid", "alpha = 200 is 200 images, allowed is 1 to 100"]),
    (["dynamic", "grid", "alpha"], [1.5], ["dynamic.grid", "alpha = 1.5"]),
    (["dynamic", "grid", "alpha"], [1], ["dynamic.grid", "alpha = 1", "write the whole pool as 1.0"]),
    (["dynamic", "grid", "alpha"], [0.3, 0.3], ["dynamic.grid.alpha: lists 0.3 more than once"]),
    (["dynamic", "protocols"], ["paper", "paper"], ["dynamic.protocols: lists paper more than once"]),
    (["dynamic", "learning_rate"], float("inf"), ["dynamic.learning_rate = inf", "finite"]),
    (["dynamic", "grid", "beta"], [float("nan")], ["dynamic.grid.beta[0] = nan", "finite"]),
    (["dynamic", "grid", "alpha"], ["half"], ["dynamic.grid.alpha[0] = 'half'", "integer", "number"]),
    (
        ["dynamic", "grid"],
        {"alpha": [0.9], "beta": [0.7], "gamma": [1.0]},
        ["dynamic.grid", "only 10 of the pool of 100"],
    ),
    (["dynamic", "comparison", "trials", 0, "strategy", "name"], "ful", ["trials[0].strategy", "'ful'", "'full'"]),
    (["dynamic", "dataset"], "other", ["dynamic.dataset = 'other' is not declared", "tiny"]),
    (["studies"], ["dynamics"], ["studies[0] = 'dynamics'", "'dynamic'"]),
    (["studies"], "dynamic", ["studies = 'dynamic'", "array"]),
    (["dynamic"], None, ["studies names 'dynamic'", "no section"]),
    (["device"], "gpu", ["device = 'gpu'", "'auto', 'cpu' or 'cuda'"]),
    (["datasets", "tiny", "source"], "zip", ["datasets.tiny", "'zip'", "'archive'"]),
    (["datasets", "tiny", "size"], [0.9, 0.1], ["datasets.tiny.size: the first size must not exceed the second"]),
    (["datasets", "a b"], {"source": "shapes"}, ["datasets.a b: the name 'a b' is not allowed"]),
    (["datasets", 5], {"source": "shapes"}, ["datasets: has the key 5", "in quotes"]),
    (["data_root"], date(2026, 1, 1), ["data_root = 2026-01-01", "date", "in quotes"]),
    (["results"], "a{b}", ["results: the name 'a{b}' is not allowed"]),
    (["results"], " ", ["results: the name ' ' is not allowed"]),
    (
        ["dynamic", "comparison"],
        {"trials": [{"strategy": {"name": "dynamic", "gamma": 0.0}}]},
        ["trials[0].strategy: gamma"],
    ),
    (["datasets", "tiny", "split"], {"method": "stratified"}, ["datasets.tiny.split", "`test` is needed"]),
    (["datasets", "tiny", "limit"], {"train": 0}, ["datasets.tiny.limit.train = 0"]),
]


@pytest.mark.parametrize(
    ("path", "value", "expected"), MISTAKES, ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in MISTAKES]
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(raw, path, value, expected):
    line = refusal(changed(raw, path, value))
    assert "\n" not in line
    for part in expected:
        assert part in line


def test_several_mistakes_are_told_at_once(raw):
    raw["dynamic"]["epochs"] = "x"
    raw["extra"] = 1
    assert len(refusal(raw).splitlines()) == 2


def test_the_schema_is_made_once_for_all_mistakes(raw, monkeypatch):
    calls = []
    schema = Config.model_json_schema
    monkeypatch.setattr(Config, "model_json_schema", lambda: calls.append(1) or schema())
    lines = refusal({**raw, **{f"key{i}": 1 for i in range(20)}}).splitlines()
    assert len(lines) == 20
    assert len(calls) <= 1


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, "needs either"),
        ({"manifest": "m.csv"}, "`manifest` and `column` go together"),
        ({"pattern": "(x"}, "no regular expression"),
        ({"pattern": "(?P<group>x{99999999999})"}, "no regular expression"),
        ({"pattern": "(" * 2000 + "(?P<group>x)" + ")" * 2000}, "no regular expression"),
        ({"pattern": "(x)"}, "named group"),
        ({"pattern": "(?P<group>x)", "block": 3}, "`block` goes with"),
    ],
)
def test_groups_are_checked(raw, group, expected):
    split = {"method": "group", "test": 0.2, "group": group}
    raw["datasets"]["files"] = {"source": "folder", "path": "x", "split": split}
    assert expected in refusal(raw)


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_missing_files_are_refused_before_any_job(raw, source, tmp_path):
    split = {"method": "stratified", "test": 0.2}
    raw["datasets"]["files"] = {"source": source, "path": "absent", "split": split}
    raw["dynamic"]["dataset"] = "files"
    raw["data_root"] = str(tmp_path)
    with pytest.raises(Exception, match="absent") as error:
        make_plan(raw)
    assert "'files'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["archive", "weights"])
def test_a_file_that_snakemake_would_take_for_a_pattern_is_refused_by_its_key(raw, what, tmp_path):
    file = tmp_path / "my {set}.tar"
    with tarfile.open(file, "w"):
        pass
    if what == "archive":
        split = {"method": "stratified", "test": 0.2}
        raw["datasets"]["files"] = {"source": "archive", "path": str(file), "split": split}
        raw["dynamic"]["dataset"] = "files"
        key = r"datasets\.files\.path"
    else:
        raw["studies"] = ["frugal"]
        raw["frugal"] = {"datasets": ["tiny"], "backbones": [{"name": "resnet18", "weights": str(file)}]}
        key = r"frugal\.backbones: weights"
    with pytest.raises(ConfigError, match=rf"^{key} = '.*my {{set}}\.tar' has braces, .*; rename it$"):
        make_plan(raw)


def test_data_sets_that_no_study_uses_need_not_be_there(raw):
    raw["datasets"]["files"] = {"source": "folder", "path": "absent", "split": {"method": "given"}}
    assert list(make_plan(raw).pools) == ["tiny"]


@pytest.fixture
def files(raw, tmp_path):
    """A configuration whose data set is a folder, of which planning only sees the files' names; and its Runs hold images out."""

    def files(split, **counts):
        for part, count in counts.items():
            for name in [f"{part}/{kind}/{number:03}.png" for kind in "ab" for number in range(count // 2)]:
                (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "pictures" / name).touch()
        raw["datasets"] = {"files": {"source": "folder", "path": "pictures", "split": split}}
        raw["data_root"] = str(tmp_path)
        raw["dynamic"] |= {"dataset": "files", "protocols": ["holdout"], "grid": None}
        return raw

    return files


def with_subset(raw, **strategy):
    raw["dynamic"]["comparison"] = {"trials": [{"strategy": {"name": "fixed", **strategy}}]}
    return raw


@pytest.mark.parametrize("alpha", [96, 100])
def test_with_given_validation_images_the_pool_is_all_given_training_images(files, alpha):
    raw = files({"method": "given"}, train=100, validation=6, test=20)
    assert make_plan(with_subset(raw, alpha=alpha))
    assert "alpha = 101 is 101 images, allowed is 1 to 100" in refusal(with_subset(raw, alpha=101))


def test_with_groups_only_what_fits_no_division_is_refused(files):
    split = {"method": "group", "test": 0.2, "group": {"pattern": "(?P<group>.)[.]png"}}
    raw = files(split, **{".": 100})
    assert make_plan(with_subset(raw, alpha=96))
    message = refusal(with_subset(raw, alpha=97))
    assert "alpha = 97 is 97 images, allowed is 1 to 96 (the pool)" in message
    assert "protocol holdout, whose pool has at most 96 images" in message


def test_a_share_that_fits_some_pool_is_not_refused_for_the_rounding_of_the_largest(files):
    split = {"method": "group", "test": 0.2, "group": {"pattern": "(?P<group>.)[.]png"}}
    raw = files(split, **{".": 102})
    raw["datasets"]["files"]["limit"] = {"train": 97}
    # Of 95 images 48 would have to be replaced by 47, of 94 all fit.
    replacing = {"name": "dynamic", "alpha": 0.5, "beta": 1.0}
    assert make_plan(with_subset(raw, **replacing))
    assert "alpha = 0.6 and beta = 0.9" in refusal(with_subset(raw, **{**replacing, "alpha": 0.6, "beta": 0.9}))


def test_a_data_set_that_cannot_be_divided_is_refused_before_any_job(files):
    raw = files({"method": "given"}, train=100, test=20)
    raw["datasets"]["files"]["limit"] = {"train": 101}
    assert "data set 'files': `limit.train: 101` must be from 2 (2 classes) to 100" in refusal(raw)


def test_values_that_give_two_runs_one_id_are_refused_by_key(raw):
    raw["dynamic"]["grid"]["beta"] = [0.3333333, 0.33333334]
    message = refusal(raw)
    assert message.startswith("beta = 0.3333333 of dynamic.grid and 0.33333334 of dynamic.grid give two Runs one id, ")
    assert "tiny/paper/cnn_a/dynamic-base-a0.3-b0.333333-g0.97-e2/seed0" in message


def test_so_they_are_between_two_experiments(raw):
    nearly = {"name": "dynamic", "alpha": 0.3, "beta": 0.2000000001, "gamma": 0.97}
    raw["dynamic"]["comparison"]["trials"].append({"strategy": nearly})
    assert "beta = 0.2 of dynamic.grid and 0.2000000001 of dynamic.comparison" in refusal(raw)


def test_a_number_too_long_to_be_written_is_refused_by_key(raw):
    assert "dynamic.epochs: is a number of 20000 bits" in refusal(changed(raw, ["dynamic", "epochs"], 2**20000 - 1))


def test_folders_may_be_named_from_home(raw, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = parse({**raw, "results": "~/results", "data_root": "~/data"})
    assert (config.results, config.data_root) == ("/home/me/results", "/home/me/data")


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda preset: preset.stem if preset else "demo")
def test_presets_are_valid_also_for_the_schema_that_snakemake_checks(preset):
    raw = read(ROOT / "config.yaml", *([preset] if preset else []))
    config = parse(raw)
    jsonschema.validate(raw, json_schema())
    for study in config.studies:
        assert registry.runs(config, study)


def test_the_schema_file_is_that_of_the_code():
    stored = json.loads((ROOT / "workflow" / "schemas" / "config.schema.json").read_text())
    assert stored == json_schema(), "run `make format`"


def test_the_paper_preset_is_the_published_scale():
    config = load(ROOT / "config.yaml", ROOT / "workflow" / "presets" / "paper.yaml")
    lists = registry.experiments(config, "dynamic")
    grid = {(run.strategy.alpha, run.strategy.beta) for run in lists["grid"]}
    assert grid == {(a, b / 10) for a in (15000, 20000, 25000) for b in range(1, 8)}
    assert {run.epochs for run in lists["grid"]} == {200}
    assert {(run.batch_size, run.learning_rate) for run in registry.runs(config, "dynamic")} == {(512, 1e-3)}
    assert {run.epochs for run in lists["robustness"]} == {80}
    assert {run.seed for run in lists["robustness"]} == set(range(20))


def test_runs_have_readable_ids_and_survive_being_written(raw):
    runs = registry.runs(parse(raw), "dynamic")
    assert [run.id for run in runs] == [
        "tiny/paper/cnn_a/dynamic-base-a0.3-b0.2-g0.97-e2/seed0",
        "tiny/paper/cnn_a/dynamic-base-a0.5-b0.2-g0.97-e2/seed0",
        "tiny/paper/cnn_a/full-e2/seed0",
        "tiny/paper/cnn_a/fixed-a50-e2/seed0",
    ]
    assert [Run.from_dict(json.loads(json.dumps(run.to_dict()))) for run in runs] == runs
    assert len({run.digest for run in runs}) == len(runs)


def test_a_study_without_experiments_is_refused(raw):
    raw["dynamic"] |= {"grid": None, "comparison": None}
    assert "dynamic: asks for no experiment" in refusal(raw)


def test_a_file_or_a_link_to_nowhere_where_results_should_go_is_refused(raw, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file is a file; name a folder" in refusal({**raw, "results": str(tmp_path / "file" / "results")})
    (tmp_path / "disk").symlink_to(tmp_path / "gone")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for link in ("disk", "ring"):
        for results in (tmp_path / link, tmp_path / link / "results"):
            assert f"{link} is a link that leads nowhere; " in refusal({**raw, "results": str(results)})
    (tmp_path / "gone").mkdir()
    assert make_plan({**raw, "results": str(tmp_path / "disk" / "results")})


def test_what_was_resolved_is_read_back_the_same(raw, tmp_path):
    raw["dynamic"]["learning_rate"] = 0.00005
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert load(tmp_path / "config.json") == parse(raw)


def test_the_configuration_of_a_copied_folder_is_not_taken_for_that_of_the_folder_it_names(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("results", "copied"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**raw, "results": "results"}))
        (tmp_path / name / "plan.json").write_text("{}")
    assert load_of_results("results/config.json").results == "results"
    with pytest.raises(ConfigError, match=rf"copied/config\.json: results = 'results'.*`results: {tmp_path}/copied`"):
        load_of_results("copied/config.json")
    (tmp_path / "moved.yaml").write_text("results: copied")
    assert load_of_results("copied/config.json", "moved.yaml").results == "copied"


def test_text_that_is_no_unicode_is_refused_by_its_key(raw):
    line = refusal({**raw, "data_root": "photos-\udcff"})
    assert line == "data_root = 'photos-\\udcff': is no Unicode text; rename what it names"


def test_rows_that_turn_out_the_same_are_one_row(raw):
    full = {"strategy": {"name": "full"}, "epochs": 2}
    raw["dynamic"]["comparison"] = {"replicates": 3, "trials": [{"strategy": {"name": "full"}}, full]}
    listed = registry.experiments(parse(raw), "dynamic")["comparison"]
    assert [run.seed for run in listed] == [0, 1, 2]


def test_experiments_share_runs(raw):
    raw["dynamic"]["comparison"]["trials"].append(
        {"strategy": {"name": "dynamic", "alpha": 0.5, "beta": 0.2, "gamma": 0.97}}
    )
    assert len(registry.runs(parse(raw), "dynamic")) == 4


@given(st.integers(1, 100_000))
def test_chunks_hold_every_run_once_and_stay_below_their_size(chunk_images):
    raw = read(ROOT / "config.yaml", ROOT / "workflow" / "presets" / "ci.yaml")
    config = parse({**raw, "chunk_images": chunk_images})
    pool = Pool(200, 180, exact=True)
    chunks = registry.chunks(config, "dynamic", {"shapes-hard": pool})
    assert [run for chunk in chunks for run in chunk.runs] == registry.runs(config, "dynamic")
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        if len(chunk.runs) > 1:
            assert sum(run.epochs * pool.subset_size(run) for run in chunk.runs) <= chunk_images
