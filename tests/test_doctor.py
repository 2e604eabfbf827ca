import pytest
import torch
from click.testing import CliRunner

from pydyn import doctor
from pydyn.cli import cli
from pydyn.config.main import parse
from pydyn.ops.extension import Extension

SHAPES = (
    {"figures": {"source": "shapes"}},
    {"shapes": {"trainings": [{"dataset": "figures", "epochs": 2, "filters": ["2-2"]}]}},
)


def test_report_has_every_section_and_this_installation():
    text = doctor.report()
    for title in ("Extension", "Devices", "Versions", "Compilers", "Data"):
        assert f"\n{title}\n" in f"\n{text}"
    assert torch.__version__ in text
    assert "none given" in text


def test_values_of_a_section_are_aligned():
    lines = doctor.report().split("\n\n")[0].splitlines()[1:]
    assert lines[0].index("yes" if "yes" in lines[0] else "no:") == lines[-1].index(
        "yes" if "yes" in lines[-1] else "no"
    )


def test_data_roots_are_listed_with_sizes(tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(b"x" * 2048)
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "birds" / "robin").mkdir(parents=True)
    (tmp_path / "birds" / "robin" / "1.jpg").write_bytes(b"x" * 3 * 2**20)
    text = doctor.report([tmp_path])
    assert "2 data sets" in text
    assert any(line.split() == ["cifar.tar.gz", "2", "KiB"] for line in text.splitlines())
    assert any(line.split() == ["birds/", "3", "MiB"] for line in text.splitlines())
    assert "notes.txt" not in text


def test_missing_and_empty_data_roots_say_what_to_do(tmp_path):
    missing, empty = doctor.data([tmp_path / "nowhere", tmp_path])
    assert missing.value == "no such folder"
    assert empty.value == "no data"
    assert missing.remedy
    assert empty.remedy


@pytest.fixture
def declare_folder(tmp_path):
    """Of a configuration with one data set, a folder of so many files of each class."""

    def declare(**counts):
        for name, count in counts.items():
            (tmp_path / "data" / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / "data" / name / f"{index}.png").touch()
        dataset = {"source": "folder", "path": "data", "split": {"method": "stratified", "test": 0.3}}
        return parse(
            {"studies": ["shapes"], "data_root": str(tmp_path), "datasets": {"mine": dataset, **SHAPES[0]}, **SHAPES[1]}
        )

    return declare


def test_ready_is_a_data_set_that_a_workflow_takes(declare_folder):
    found = {finding.name: finding for finding in doctor.declared(declare_folder(a=5, b=5, c=1))}
    assert found["mine"].value == "folder, missing or wrong"
    assert "too few images to divide into parts, in classes {'c': 1}" in found["mine"].remedy
    assert found["figures"].value == "shapes, ready"


def test_a_data_set_that_may_not_be_read_is_told_beside_the_others(declare_folder, monkeypatch):
    def refuse(name, dataset, data_root):
        if name == "mine":
            raise PermissionError(13, "Permission denied", "data/a")

    monkeypatch.setattr(doctor, "check_source", refuse)
    found = {finding.name: finding for finding in doctor.declared(declare_folder(a=5, b=5))}
    assert (found["mine"].value, found["mine"].remedy) == ("folder, not readable", "data/a: Permission denied")
    assert found["figures"].value == "shapes, ready"


def test_a_configuration_that_is_named_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["doctor"]).exit_code == 0
    done = CliRunner().invoke(cli, ["doctor", "--config", "mien.yaml"])
    assert "mien.yaml: cannot be read" in str(done.exception)


def test_missing_extension_says_why_and_how_to_build(monkeypatch):
    monkeypatch.setattr(doctor, "EXTENSION", Extension("the native extension is not built"))
    text = doctor.report()
    assert "no: the native extension is not built" in text
    assert "-> `pip install --no-build-isolation -e .`" in text


def test_missing_compilers_say_what_to_do(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    found = {finding.name: finding for finding in doctor.compilers()}
    assert found["C++"].value == "not found"
    assert "g++" in found["C++"].remedy


def test_torchvision_that_does_not_fit_torch_is_told(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    found = {finding.name: finding for finding in doctor.versions()}
    assert "operator torchvision::nms does not exist" in found["torchvision"].value
    assert "must match" in found["torchvision"].remedy


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (5 * 2**20, "5 MiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_sizes_are_readable(n_bytes, text):
    assert doctor._size(n_bytes) == text
