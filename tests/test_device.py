"""Devices: a CPU's name tells apart what gives other bits or takes other seconds, and what is not there is refused."""

from pathlib import Path

import pytest
import torch

from pydyn.device import open_device
from pydyn.errors import RunError


@pytest.fixture
def machine(monkeypatch):
    """A CPU by what /proc/cpuinfo says (None: there is none) and what torch sees; its name."""

    def name(cpuinfo="", amx=False, bf16=False, capability="AVX512", **environment):
        def read_text(path, encoding):
            assert str(path) == "/proc/cpuinfo"
            if cpuinfo is None:
                raise FileNotFoundError(path)
            return cpuinfo

        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", read_text)
            return open_device("cpu", 1).name

    return name


EPYC = "processor\t: 0\nmodel name\t: AMD EPYC 9B45\nflags\t: fpu\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9B45\n"


def test_a_cpu_is_named_by_its_model_and_its_instructions(machine):
    assert machine(EPYC) == "AMD EPYC 9B45, AVX512"
    assert machine(EPYC, bf16=True) == "AMD EPYC 9B45, AVX512, AVX512-BF16"
    assert machine(EPYC, bf16=True, amx=True) == "AMD EPYC 9B45, AVX512, AVX512-BF16, AMX"
    assert machine(EPYC.replace("EPYC", "Ryzen"), capability="AVX2") == "AMD Ryzen 9B45, AVX2"


def test_what_holds_its_instructions_back_is_named(machine):
    assert machine(EPYC, ONEDNN_MAX_CPU_ISA="AVX2") == "AMD EPYC 9B45, AVX512, ONEDNN_MAX_CPU_ISA=AVX2"
    assert machine(EPYC, capability="AVX2", ATEN_CPU_CAPABILITY="avx2").endswith("AVX2, ATEN_CPU_CAPABILITY=avx2")
    assert machine(EPYC, ONEDNN_MAX_CPU_ISA="") == machine(EPYC)


@pytest.mark.parametrize("cpuinfo", [None, "", "processor : 0\nCPU part : 0xd4f\n", "model name :\n"])
def test_a_cpu_without_a_model_is_a_cpu(machine, cpuinfo):
    assert machine(cpuinfo, capability="DEFAULT") == "CPU, DEFAULT"


def test_more_threads_than_cores_are_refused():
    with pytest.raises(RunError, match="threads = 100000"):
        open_device("cpu", 100_000)


def test_cuda_without_a_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RunError, match="torch sees no GPU"):
        open_device("cuda", 1)
