"""What `pydyn doctor` tells: what this installation can use, what it lacks and what to do about it."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

import pydyn
from pydyn.config.main import Config
from pydyn.data.archives import SUFFIXES
from pydyn.data.checks import check_source, known_pool
from pydyn.errors import PydynError
from pydyn.files import in_a_line
from pydyn.ops.extension import EXTENSION, HOW_TO_BUILD

_LIBRARIES = ("torch", "torchvision", "snakemake", "numpy", "h5py")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` says what to do when something is missing, None when nothing is."""

    name: str
    value: str
    remedy: str | None = None


def report(data_roots: Sequence[Path] = (), config: Config | None = None) -> str:
    """Describe the extension, devices, versions, compilers and the data, as aligned text.

    Data: the sets that a configuration declares, and what lies under `data_roots`.
    """
    sections = {
        "Extension": extension(),
        "Devices": devices(),
        "Versions": versions(),
        "Compilers": compilers(),
        "Data": [*declared(config), *data(data_roots)]
        or [Finding("none looked for", "", "name a folder: --data-root DIR")],
    }
    return "\n\n".join(_section(title, list(findings)) for title, findings in sections.items())


def extension() -> Iterator[Finding]:
    """What was built of the native extension."""
    if EXTENSION.problem is not None:
        yield Finding("C++ ops", f"no: {EXTENSION.problem}; the slower torch reference runs", HOW_TO_BUILD)
    else:
        yield Finding("C++ ops", "yes")
    if EXTENSION.cuda_version is not None:
        yield Finding("CUDA kernels", f"yes, compiled by CUDA {EXTENSION.cuda_version}")
    elif torch.cuda.is_available():
        yield Finding(
            "CUDA kernels",
            "no; the slower torch reference runs on the GPU",
            f'an nvcc (`pip install "cuda-toolkit[nvcc]=={torch.version.cuda}.*"`), then PYDYN_CUDA=1 {HOW_TO_BUILD}',
        )
    else:
        yield Finding("CUDA kernels", "no; none needed without a GPU")


def devices() -> Iterator[Finding]:
    """CPU and GPUs, as torch sees them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU cores", f"{os.cpu_count()}, of which this process may use {usable}")
    yield Finding("torch threads", str(torch.get_num_threads()))
    yield Finding("instructions", ", ".join(_instructions()))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            capability = f"compute capability {gpu.major}.{gpu.minor}"
            yield Finding(f"GPU {number}", f"{gpu.name}, {_size(gpu.total_memory)}, {capability}")
    elif torch.version.cuda is None:
        yield Finding("GPU", "none: torch is not a CUDA build", "for an NVIDIA GPU, install torch's CUDA build")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "GPU",
            "none that torch can use, though NVIDIA's driver is installed",
            f"see `nvidia-smi`: the driver must be recent enough for CUDA {torch.version.cuda}, and "
            "CUDA_VISIBLE_DEVICES, if set, must name a GPU",
        )
    else:
        yield Finding("GPU", "none: no NVIDIA driver on this machine")


def versions() -> Iterator[Finding]:
    """Python, pydyn and the libraries that results depend on."""
    yield Finding("python", platform.python_version())
    yield Finding("pydyn", pydyn.__version__)
    for library in _LIBRARIES:
        try:
            version = metadata.version(library)
        except metadata.PackageNotFoundError:
            yield Finding(library, "not installed", f"`pip install {library}`, or requirements.lock for a tested set")
            continue
        if library == "torch":
            version = f"{torch.__version__} ({f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'})"
        elif library == "torchvision" and (problem := _import_problem(library)):
            yield Finding(
                library,
                f"{version}, which does not import: {problem}",
                "install the pair of torch and torchvision that requirements.lock names: their builds must match",
            )
            continue
        yield Finding(library, version)


def compilers() -> Iterator[Finding]:
    """What a build of the extension would find."""
    here = Path(sys.executable).parent
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    tools = (
        ("C++", os.environ.get("CXX") or compiler, "install a C++ compiler, for example g++, to build the extension"),
        ("nvcc", shutil.which("nvcc"), None),
        ("ninja", shutil.which("ninja") or shutil.which("ninja", path=str(here)), "`pip install ninja`"),
    )
    for name, command, remedy in tools:
        if command is None:
            yield Finding(name, "not found", remedy)
        else:
            yield Finding(name, f"{command}: {_version_line(command)}")


def data(roots: Sequence[Path]) -> Iterator[Finding]:
    """Archives and folders directly under the given data roots."""
    if not roots:
        yield Finding("data roots", "none given; the embedded data sets need none")
    for root in roots:
        if not root.is_dir():
            yield Finding(str(root), "no such folder", "make it and put archives or folders of images into it")
            continue
        found = [entry for entry in sorted(root.iterdir()) if entry.is_dir() or entry.name.lower().endswith(SUFFIXES)]
        if not found:
            wanted = ", ".join(f"*{ending}" for ending in SUFFIXES)
            yield Finding(str(root), "no data", f"put archives ({wanted}) or folders of images into it")
            continue
        yield Finding(str(root), f"{len(found)} data set{'s' if len(found) > 1 else ''}")
        for entry in found:
            yield Finding(f"  {entry.name}{'/' if entry.is_dir() else ''}", _size(sum(_file_sizes(entry))))


def declared(config: Config | None) -> Iterator[Finding]:
    """The data sets of a configuration, and whether they are there."""
    for name, dataset in config.datasets.items() if config else ():
        assert config is not None
        try:
            # All that a workflow refuses before any job.
            check_source(name, dataset, Path(config.data_root))
            known_pool(name, dataset, Path(config.data_root))
        except PydynError as error:
            yield Finding(name, f"{dataset.source}, missing or wrong", str(error))
        except OSError as error:
            yield Finding(name, f"{dataset.source}, not readable", in_a_line(error))
        else:
            yield Finding(name, f"{dataset.source}, ready")


def _section(title: str, findings: list[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    lines = [title]
    for finding in findings:
        lines.append(f"  {finding.name:<{width}}  {finding.value}")
        if finding.remedy is not None:
            lines.append(f"  {'':<{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def _instructions() -> list[str]:
    # What torch dispatches on, before what the CPU has: ATEN_CPU_CAPABILITY may hold torch back.
    found = [f"torch uses {torch.backends.cpu.get_cpu_capability()}"]
    flags = _cpu_flags()
    for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("AMX bf16", "amx_bf16")):
        found.append(f"{name} {'yes' if flag in flags else 'no'}")
    return found


def _cpu_flags() -> set[str]:
    # torch's own queries are private, or absent from older releases.
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def _version_line(command: str) -> str:
    """The line of `command --version` that holds the version: nvcc opens with copyright."""
    try:
        done = subprocess.run([*command.split(), "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    lines = done.stdout.splitlines()
    return next((line for line in lines if "release" in line), lines[0] if lines else "says no version")


def _file_sizes(path: Path) -> Iterable[int]:
    if path.is_file():
        yield path.stat().st_size
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield (Path(folder) / name).lstat().st_size


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
