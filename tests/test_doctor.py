import pytest
import torch

from pydyn import doctor
from pydyn.ops.extension import Extension


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
