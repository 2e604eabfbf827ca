"""A stage's digest changes with what it computes, and with nothing else."""

import shutil

import pytest

from pydyn import provenance
from pydyn.selection.controls import Full
from pydyn.selection.dynamic import Dynamic


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package and the kernels, to edit."""
    shutil.copytree(provenance.PACKAGE, tmp_path / "pydyn", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(provenance.PACKAGE.parent / "csrc", tmp_path / "csrc")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "pydyn")
    yield tmp_path
    forget()  # what was told of the copy


def forget():
    provenance.code_digest.cache_clear()
    provenance._tree.cache_clear()


def digest():
    forget()
    return provenance.training_digest(Dynamic)


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    "file",
    ["training/loop.py", "selection/dynamic.py", "models/cnn.py", "data/batches.py", "ops/gather.py", "seeding.py"],
)
def test_code_that_training_runs_counts(package, file):
    before = digest()
    append(package / "pydyn" / file, "\nCHANGED = 1\n")
    assert digest() != before


@pytest.mark.parametrize(
    "file",
    [
        "report/page.py",
        "config/main.py",
        "cli.py",
        "studies/dynamic.py",
        "data/prepare.py",
        "__init__.py",
        "selection/registry.py",
        "selection/controls.py",
    ],
)
def test_code_that_training_does_not_run_does_not_count(package, file):
    before = digest()
    append(package / "pydyn" / file, "\nCHANGED = 1\n")
    assert digest() == before


def test_comments_and_docstrings_do_not_count_and_kernels_do(package):
    before = digest()
    loop = package / "pydyn" / "training" / "loop.py"
    loop.write_text("# a comment\n" + loop.read_text().replace("The training loop: one Run", "One Run"))
    assert digest() == before
    append(next((package / "csrc").rglob("*.cpp")), "// a comment in a kernel counts\n")
    assert digest() != before


def test_a_strategys_own_code_counts_for_its_runs(package):
    digest()
    before = provenance.training_digest(Full)
    append(package / "pydyn" / "selection" / "controls.py", "\nCHANGED = 1\n")
    digest()
    assert provenance.training_digest(Full) != before


@pytest.mark.parametrize("file", ["templates/page.css", "reference/dynamic_a_grid.csv"])
def test_templates_and_published_figures_count_for_the_report(package, file):
    provenance.code_digest.cache_clear()
    before = provenance.code_digest("pydyn.report.page")
    append(package / "pydyn" / "report" / file, " ")
    provenance.code_digest.cache_clear()
    assert provenance.code_digest("pydyn.report.page") != before


def test_versions_and_commit_are_told():
    assert provenance.versions()["torch"][0].isdigit()
    assert provenance.commit()
