import sys
from types import SimpleNamespace

import pytest
import torch

from pydyn.ops import extension


def test_extension_that_was_never_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydyn._C", None)
    found = extension.load_extension()
    assert not found.loaded
    assert found.problem == "the native extension is not built"


def test_extension_that_does_not_import_says_why(monkeypatch):
    def fail(name):
        raise ImportError(f"{name}: undefined symbol: _ZN3c10")

    monkeypatch.setattr(extension.importlib, "import_module", fail)
    found = extension.load_extension()
    assert "built but does not import" in found.problem
    assert "undefined symbol: _ZN3c10" in found.problem


def test_extension_of_another_torch_release_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydyn._C", SimpleNamespace(torch_version="1.13.1", cuda_version=None))
    found = extension.load_extension()
    assert found.problem == f"the native extension was built for torch 1.13.1, this is {torch.__version__}"


def test_extension_of_older_sources_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydyn._C", SimpleNamespace(torch_version=torch.__version__, cuda_version=None))
    monkeypatch.setattr(extension, "_OPS", ("op_of_the_future",))
    assert "older sources, without op_of_the_future" in extension.load_extension().problem


@pytest.mark.skipif(not extension.EXTENSION.loaded, reason=f"no extension: {extension.EXTENSION.problem}")
def test_every_operation_is_looked_for():
    names = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("pydyn::")}
    assert names == set(extension._OPS)


def test_the_warning_names_the_problem_and_the_remedy_once(monkeypatch):
    monkeypatch.setattr(extension, "EXTENSION", extension.Extension("the native extension has gone fishing"))
    monkeypatch.setattr(extension, "_warned", False)
    with pytest.warns(RuntimeWarning, match="gone fishing.*pip install --no-build-isolation -e .") as caught:
        extension.warn_reference()
        extension.warn_reference()
    assert len(caught) == 1
