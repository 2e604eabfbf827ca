import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def build(monkeypatch):
    """setup.py as a module, run from the root in a copy of the environment."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(ROOT)
    for name in ("PYDYN_CUDA", "CXX", "CUDA_HOME", "CUDA_PATH"):
        os.environ.pop(name, None)
    spec = importlib.util.spec_from_file_location("pydyn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look up the module of their class.
    monkeypatch.setitem(sys.modules, "pydyn_setup", module)
    spec.loader.exec_module(module)
    return module


def make_tool(folder, name, script="exit 0"):
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return tool


def make_toolkit(home, version):
    """A folder that answers like a CUDA toolkit."""
    make_tool(
        home / "bin",
        "nvcc",
        f'echo "Cuda compilation tools, release {version}, V{version}.1"; echo "#$ TOP={home}" >&2',
    )
    (home / "lib").mkdir()
    (home / "lib" / f"libcudart.so.{version.split('.')[0]}").touch()
    return home


def make_torch(tmp_path, cuda):
    return SimpleNamespace(
        __version__="2.15.0",
        __file__=str(tmp_path / "site" / "torch" / "__init__.py"),
        version=SimpleNamespace(cuda=cuda),
    )


def test_unknown_wish_for_cuda_is_refused_by_name(build):
    os.environ["PYDYN_CUDA"] = "bogus"
    with pytest.raises(SystemExit, match="PYDYN_CUDA=bogus is not one of 0, 1, auto"):
        build.plan_extension()


def test_without_compiler_the_plan_has_no_extension_and_says_so(build, tmp_path, capsys):
    os.environ["PATH"] = str(tmp_path)
    assert build.plan_extension() == {}
    assert "no C++ compiler found" in capsys.readouterr().err


def test_cuda_wanted_without_compiler_is_refused(build, tmp_path):
    os.environ |= {"PATH": str(tmp_path), "PYDYN_CUDA": "1"}
    with pytest.raises(SystemExit, match="PYDYN_CUDA=1, but no C\\+\\+ compiler found"):
        build.plan_extension()


def test_cuda_wanted_without_nvcc_is_refused(build, tmp_path, monkeypatch):
    make_tool(tmp_path, "c++")
    monkeypatch.setattr(build, "installed_torch", lambda: make_torch(tmp_path, "13.2"))
    os.environ |= {"PATH": str(tmp_path), "PYDYN_CUDA": "1"}
    with pytest.raises(
        SystemExit, match=r"PYDYN_CUDA=1, but no nvcc of CUDA 13.* was found.*cuda-toolkit\[nvcc\]==13.2"
    ):
        build.plan_extension()


def test_cuda_wanted_with_a_torch_without_cuda_is_refused(build, tmp_path, monkeypatch):
    make_tool(tmp_path, "c++")
    monkeypatch.setattr(build, "installed_torch", lambda: make_torch(tmp_path, None))
    os.environ |= {"PATH": str(tmp_path), "PYDYN_CUDA": "1"}
    with pytest.raises(SystemExit, match="is not a CUDA build"):
        build.plan_extension()


def test_without_torch_the_build_stops_and_says_what_to_do(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"Install torch first.*--no-build-isolation"):
        build.plan_extension()


def test_plan_without_cuda_compiles_every_source_but_those_of_cuda(build):
    os.environ["PYDYN_CUDA"] = "0"
    (extension,) = build.plan_extension()["ext_modules"]
    assert extension.name == "pydyn._C"
    assert {Path(source) for source in extension.sources} == {
        file.relative_to(ROOT) for file in (ROOT / "csrc").rglob("*.cpp") if file.parent.name != "cuda"
    }


@pytest.mark.parametrize("compiler", ["c++", "g++", "clang++"])
def test_any_usual_compiler_is_found(build, tmp_path, compiler):
    make_tool(tmp_path, compiler)
    os.environ["PATH"] = str(tmp_path)
    assert build.find_compiler() == compiler


def test_compiler_with_a_launcher_is_kept_whole(build, tmp_path):
    os.environ["CXX"] = f"{make_tool(tmp_path, 'ccache')} g++"
    assert build.find_compiler() == os.environ["CXX"]


def test_compiler_that_does_not_exist_falls_back_and_says_so(build, tmp_path, capsys):
    make_tool(tmp_path, "g++")
    os.environ |= {"PATH": str(tmp_path), "CXX": "icpx"}
    assert build.find_compiler() == "g++"
    assert "CXX=icpx is not found" in capsys.readouterr().err


def test_a_flag_is_given_to_compilers_that_know_it(build, tmp_path):
    picky = make_tool(tmp_path, "c++", 'case "$*" in *--param=*) exit 1;; esac')
    assert build.accepts(f"env {picky}", "-O2")
    assert not build.accepts(f"env {picky}", build.ALWAYS_FUSED)


def test_toolkit_with_another_minor_version_is_taken(build, tmp_path):
    os.environ |= {"PATH": "", "CUDA_HOME": str(make_toolkit(tmp_path / "cuda", "13.0"))}
    found = build.find_cuda_toolkit(make_torch(tmp_path, "13.2"))
    assert found == build.CudaToolkit(tmp_path / "cuda", "13.0")


def test_toolkit_of_another_major_version_is_passed_over(build, tmp_path):
    os.environ |= {"PATH": "", "CUDA_HOME": str(make_toolkit(tmp_path / "cuda", "12.8"))}
    with pytest.raises(build.Unbuildable, match=r"no nvcc of CUDA 13.*nvcc is of CUDA 12\.8"):
        build.find_cuda_toolkit(make_torch(tmp_path, "13.2"))
    pips = make_toolkit(tmp_path / "site" / "nvidia" / "cu13", "13.2")
    assert build.find_cuda_toolkit(make_torch(tmp_path, "13.2")).home == pips


def test_nvcc_on_path_may_be_a_wrapper_outside_its_toolkit(build, tmp_path):
    home = make_toolkit(tmp_path / "cuda", "13.0")
    make_tool(tmp_path / "bin", "nvcc", f'exec {home}/bin/nvcc "$@"')
    os.environ["PATH"] = str(tmp_path / "bin")
    assert build.find_cuda_toolkit(make_torch(tmp_path, "13.2")).home == home


def test_runtime_without_the_linkers_name_gets_a_link(build, tmp_path):
    toolkit = build.CudaToolkit(make_toolkit(tmp_path / "cuda", "13.2"), "13.2")
    for _ in range(2):
        assert build.link_cuda_runtime(toolkit, tmp_path / "build") == [str(tmp_path / "build")]
    assert (tmp_path / "build" / "libcudart.so").resolve() == tmp_path / "cuda" / "lib" / "libcudart.so.13"


def test_runtime_with_the_linkers_name_needs_no_link(build, tmp_path):
    toolkit = build.CudaToolkit(make_toolkit(tmp_path / "cuda", "13.2"), "13.2")
    (toolkit.home / "lib" / "libcudart.so").touch()
    assert build.link_cuda_runtime(toolkit, tmp_path / "build") == []
