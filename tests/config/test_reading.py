"""Files of configuration as they are read: what is no mapping, stands twice or for too much is refused by file."""

import pytest

from pydyn.config.main import load, overlay, read
from pydyn.errors import ConfigError


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "text", ""])
def test_files_that_are_no_mapping_are_refused_by_name(tmp_path, content):
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        read(file)


@pytest.mark.parametrize(
    "value", ["!!int ''", "!!float ''", "!!bool maybe", "!!timestamp soon", "[" * 2000 + "]" * 2000]
)
def test_values_that_yaml_cannot_read_are_refused_by_file(tmp_path, value):
    file = tmp_path / "broken.yaml"
    file.write_text(f"threads: {value}\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml: is not YAML or JSON"):
        read(file)


def test_json_nested_without_end_is_refused_by_file(tmp_path):
    file = tmp_path / "broken.json"
    file.write_text('{"threads": ' + "[" * 2000 + "]" * 2000 + "}")
    with pytest.raises(ConfigError, match=r"broken\.json: is not YAML or JSON"):
        read(file)


@pytest.mark.parametrize(
    ("levels", "alias", "end"),
    [
        ("a: &a0 {k: 1}\n", "a{n}: &a{n} [{of}]\n", "*a9"),
        ("a: &a0 {k: 1}\n", "a{n}: &a{n} {{<<: [{of}], k{n}: 1}}\n", "*a9"),
        ("", "", "&a [*a]"),
        ("", "", "&a {b: {<<: *a}}"),
    ],
)
def test_aliases_that_stand_for_too_much_are_refused_by_file(tmp_path, levels, alias, end):
    text = levels + "".join(alias.format(n=n + 1, of=", ".join([f"*a{n}"] * 9)) for n in range(9)) + f"last: {end}\n"
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bomb\.yaml: .*aliases stand for more than 100,000 values"):
        read(file)


@pytest.mark.parametrize(
    ("content", "key", "lines"),
    [
        ("datasets: {a: {source: shapes}}\nstudies: [dynamic]\ndatasets: {b: {source: shapes}}\n", "datasets", (1, 3)),
        ("dynamic:\n  epochs: 30\n  grid: null\n  epochs: 3\n", "epochs", (2, 4)),
        ("dynamic: {epochs: 30, epochs: 3}", "epochs", (1, 1)),
    ],
)
def test_a_key_that_stands_twice_is_refused_where_it_does(tmp_path, content, key, lines):
    file = tmp_path / "twice.yaml"
    file.write_text(content)
    with pytest.raises(
        ConfigError, match=rf"twice\.yaml: has the key '{key}' in line {lines[0]} and again in line {lines[1]}"
    ):
        read(file)


def test_a_key_that_stands_twice_in_json_is_refused(tmp_path):
    file = tmp_path / "twice.json"
    file.write_text('{"threads": 1, "dynamic": {"epochs": 30, "epochs": 3}}')
    with pytest.raises(
        ConfigError, match=r"twice\.json: has the key 'epochs' twice in one mapping, of which only the last"
    ):
        read(file)


def test_a_key_that_replaces_a_merged_one_stands_once(tmp_path):
    (tmp_path / "merged.yaml").write_text("inner: {a: &first {<<: &base {k: 1}, k: 2}}\nouter: {<<: *first, k: 3}\n")
    assert read(tmp_path / "merged.yaml")["outer"] == {"k": 3}


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")


def test_overlays_merge_mappings_and_replace_lists():
    assert overlay({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}
