"""Builds the native extension `pydyn._C` from csrc/. Everything else about the package is in pyproject.toml.

    pip install --no-build-isolation -e .

PYDYN_CUDA   auto (default): CUDA kernels when torch is a CUDA build and a fitting nvcc is found in CUDA_HOME, on PATH or
             in pip's cuda-toolkit[nvcc]; 0: none; 1: fail when they cannot be built
CXX          the C++ compiler; otherwise the first of c++, g++, clang++. Without one the package installs without extension
PYDYN_SANITIZE   1: under address and undefined-behaviour sanitizers, for `make sanitize`
MAX_JOBS     compilers at a time (default: number of cores)
TORCH_CUDA_ARCH_LIST   GPU generations to compile for
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from setuptools import setup

# Turing, Ampere and Hopper by themselves, what comes later through PTX.
DEFAULT_CUDA_ARCHITECTURES = "7.5;8.0;9.0+PTX"


# csrc/cpu/vector.h passes vectors between inlined functions; GCC would remark on each that the ABI of such calls changed.
NO_ABI_NOTES = ["-Wno-psabi"]


# GCC may take single sums apart into products and additions where two side by side are fused, for speed on some processors;
# populations hold on to one rounding for all (csrc/cpu/tiny_cnn.h).
ALWAYS_FUSED = "--param=avoid-fma-max-bits=0"

# Of memory and undefined behaviour; the first finding ends the process.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


class Unbuildable(Exception):
    """A part cannot be built here; the message says what is missing and what to do."""


@dataclass(frozen=True)
class CudaToolkit:
    """Where an nvcc and its headers and libraries are, and the CUDA version they are of."""

    home: Path
    version: str


def say(message: str) -> None:
    """Tell the user; pip shows it with -v."""
    print(f"pydyn: {message}", file=sys.stderr)


def installed_torch():
    """The torch that the extension will be loaded into."""
    try:
        import torch
    except ImportError as error:
        raise SystemExit(
            f"pydyn: building needs torch in this environment ({error}). Install torch first, then pydyn with "
            "`pip install --no-build-isolation`: an isolated build would compile against another torch than the one "
            "that loads the extension."
        ) from None
    return torch


def find_compiler() -> str:
    """The C++ compiler's command, which may hold a launcher such as ccache and flags."""
    for command in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if command and shutil.which(shlex.split(command)[0]):
            return command
        if command and command == os.environ.get("CXX"):
            say(f"CXX={command} is not found, looking for another compiler")
    raise Unbuildable("no C++ compiler found ($CXX, c++, g++, clang++): install one, for example g++")


def accepts(compiler: str, flag: str) -> bool:
    """Whether a C++ compiler knows a flag."""
    command = [*shlex.split(compiler), "-Werror", flag, "-x", "c++", "-E", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def toolkit_of(nvcc: Path) -> CudaToolkit:
    """Ask an nvcc for its version and home: the file may be a wrapper or a link outside the toolkit."""
    # A dry run is the only way to make nvcc name its home; it prints that and the commands it would run.
    outputs = [
        subprocess.run([nvcc, *arguments], capture_output=True, text=True, check=False)
        for arguments in (["--version"], ["--dryrun", "-x", "cu", "-c", os.devnull])
    ]
    version = re.search(r"release (\d+\.\d+)", outputs[0].stdout)
    home = re.search(r"^#\$ TOP=(.+)$", outputs[1].stderr, re.MULTILINE)
    if version is None or home is None:
        raise Unbuildable(f"{nvcc} does not answer like an nvcc: {(outputs[0].stderr or outputs[1].stderr).strip()}")
    return CudaToolkit(Path(home[1].strip()).resolve(), version[1])


def find_cuda_toolkit(torch) -> CudaToolkit:
    """The first toolkit whose major version is torch's; a minor mismatch is fine for kernels that include no torch header."""
    if torch.version.cuda is None:
        raise Unbuildable(f"torch {torch.__version__} is not a CUDA build: install one that is")
    major = torch.version.cuda.split(".")[0]

    candidates = []
    if cuda_home := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        candidates.append(Path(cuda_home) / "bin" / "nvcc")
    if on_path := shutil.which("nvcc"):
        candidates.append(Path(on_path))
    candidates.append(Path(torch.__file__).parent.parent / "nvidia" / f"cu{major}" / "bin" / "nvcc")

    refused = []
    for nvcc in candidates:
        if not nvcc.is_file():
            continue
        try:
            toolkit = toolkit_of(nvcc)
        except (Unbuildable, OSError) as error:
            refused.append(str(error))
            continue
        if toolkit.version.split(".")[0] == major:
            return toolkit
        refused.append(f"{nvcc} is of CUDA {toolkit.version}")
    advice = f'give CUDA_HOME, or `pip install "cuda-toolkit[nvcc]=={torch.version.cuda}.*"`'
    found = "; ".join(refused) or "none in CUDA_HOME, on PATH or beside torch"
    raise Unbuildable(f"no nvcc of CUDA {major}, as torch {torch.__version__} needs, was found ({found}): {advice}")


def link_cuda_runtime(toolkit: CudaToolkit, folder: Path) -> list[str]:
    """Folders to link libcudart from.

    pip's toolkit ships libcudart.so.13 without the name that `-lcudart` looks for, so a link of that name goes to `folder`.
    """
    libraries = [toolkit.home / "lib64", toolkit.home / "lib"]
    if any((library / "libcudart.so").exists() for library in libraries):
        return []
    versioned = [file for library in libraries for file in sorted(library.glob("libcudart.so.*"))]
    if not versioned:
        raise Unbuildable(f"the CUDA toolkit in {toolkit.home} has no libcudart: install its runtime library")
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "libcudart.so"
    link.unlink(missing_ok=True)
    link.symlink_to(versioned[0])
    return [str(folder)]


def plan_extension() -> dict:
    """Decide what to build, and give the arguments of `setup` that build it: none of them without a compiler."""
    wish = os.environ.get("PYDYN_CUDA", "auto")
    if wish not in ("0", "1", "auto"):
        raise SystemExit(f"pydyn: PYDYN_CUDA={wish} is not one of 0, 1, auto")
    torch = installed_torch()

    try:
        os.environ["CXX"] = find_compiler()
    except Unbuildable as problem:
        if wish == "1":
            raise SystemExit(f"pydyn: PYDYN_CUDA=1, but {problem}") from None
        say(f"{problem}. Installing without the extension: pydyn.ops will run its slower torch reference")
        return {}

    build_folder = Path("build") / f"{sys.implementation.cache_tag}-torch{torch.__version__}"
    toolkit, library_dirs = None, []
    if wish != "0":
        try:
            toolkit = find_cuda_toolkit(torch)
            library_dirs = link_cuda_runtime(toolkit, build_folder / "lib")
        except Unbuildable as problem:
            if wish == "1":
                raise SystemExit(f"pydyn: PYDYN_CUDA=1, but {problem}") from None
            toolkit = None
            say(f"building without CUDA kernels: {problem}")
    # Objects with and without CUDA are kept apart, so that going back and forth compiles nothing again.
    return extension_arguments(torch, toolkit, library_dirs, build_folder / ("cuda" if toolkit else "cpu"))


def extension_arguments(torch, toolkit: CudaToolkit | None, library_dirs: list[str], build_folder: Path) -> dict:
    """The arguments of `setup` for an extension with (`toolkit`) or without CUDA kernels."""
    if toolkit is not None:
        # Read by torch.utils.cpp_extension when it is imported, which is why that happens below only.
        os.environ["CUDA_HOME"] = str(toolkit.home)
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_CUDA_ARCHITECTURES)
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))
    # pip's ninja lies beside the interpreter, which is not on PATH in an environment that was not activated.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"

    import pybind11
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    class CachedBuild(BuildExtension):
        """Keeps the objects between builds: pip deletes the folder that it would build an editable install in."""

        def finalize_options(self):
            wanted = self.build_temp
            super().finalize_options()
            self.build_temp = wanted or str(build_folder)

    folders = [Path("csrc"), Path("csrc/cpu")] + ([Path("csrc/cuda")] if toolkit else [])
    sources = [str(file) for folder in folders for file in sorted(folder.iterdir()) if file.suffix in (".cpp", ".cu")]
    # at::parallel_for is a header over OpenMP: without the flag it runs on one thread.
    openmp = ["-fopenmp"] if sys.platform == "linux" else []
    # No -march=native: a wheel, or a home folder shared by a cluster's nodes, must run on other CPUs than the one it was
    # built on. csrc/cpu/clones.h has the hot loops compiled for several generations, chosen from at run time.
    # Nobody reads errno, for which a square root would be a call.
    optimise = ["-O3"]
    # Python's own flags often hold -g, with which torch's headers make a module of 9 MB.
    sanitize = SANITIZERS if os.environ.get("PYDYN_SANITIZE") == "1" else []
    fused = [ALWAYS_FUSED] if accepts(os.environ["CXX"], ALWAYS_FUSED) else []
    cxx = [*optimise, "-fno-math-errno", "-g0", "-Wall", *fused, *NO_ABI_NOTES, *openmp, *sanitize]
    extension = (CUDAExtension if toolkit else CppExtension)(
        "pydyn._C",
        sources,
        depends=[str(header) for header in sorted(Path("csrc").rglob("*.h"))],
        include_dirs=[pybind11.get_include()],
        library_dirs=library_dirs,
        # The version is on the command line so that another torch compiles everything anew.
        define_macros=[("PYDYN_TORCH_VERSION", f'"{torch.__version__}"')]
        + ([("PYDYN_WITH_CUDA", "1")] if toolkit else []),
        extra_compile_args={"cxx": cxx, "nvcc": optimise},
        extra_link_args=[*openmp, *sanitize],
    )
    kernels = f"with CUDA kernels (CUDA {toolkit.version}, {toolkit.home})" if toolkit else "without CUDA kernels"
    say(f"building the extension for torch {torch.__version__} {kernels}")
    return {"ext_modules": [extension], "cmdclass": {"build_ext": CachedBuild}}


if __name__ == "__main__":
    setup(**plan_extension())
