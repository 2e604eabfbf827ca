"""What a result was made with: digests of code, versions, the commit."""

import ast
import hashlib
import importlib.metadata
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


# What a Run's result depends on, its own strategy apart.
TRAINING_MODULES = ("pydyn.training.loop", "pydyn.device", "pydyn.training.summary")

# Imported by what computes, but without a part in it: the version's number, and the list of strategies, which grows.
NO_PART = frozenset({"pydyn", "pydyn.selection.registry"})


def training_digest(strategy: type) -> str:
    """Digest of the code that a Run's result depends on, given the class of its strategy's parameters."""
    return code_digest(*TRAINING_MODULES, strategy.__module__)


def heads_digest() -> str:
    """Digest of the code that heads on features depend on, the features apart."""
    return code_digest("pydyn.training.head_runs")


def fine_tuning_digest() -> str:
    """Digest of the code that a fine-tuning depends on."""
    return code_digest("pydyn.training.fine_tuning_runs")


def populations_digest() -> str:
    """Digest of the code that populations of tiny networks depend on."""
    return code_digest("pydyn.training.population_runs")


def analyses_digest() -> str:
    """Digest of the code that analyses of tiny networks depend on, the networks apart."""
    return code_digest("pydyn.training.analysis_runs")


@lru_cache
def code_digest(*modules: str) -> str:
    """Digest of modules of this package and of all that they import from it, directly or not.

    Comments, docstrings and layout do not count: what a stage computes cannot depend on them. Files beside a package's modules
    (templates, tables) count with the package, and the kernels' sources wherever `pydyn.ops` is imported. Nothing is imported
    to find out.

    Args:
        modules: dotted names, as `pydyn.training.execute`.

    Returns:
        16 hex digits.
    """
    digest = hashlib.sha256()
    closure = _closure(modules)
    files: list[Path] = []
    for name in sorted(closure):
        digest.update(name.encode())
        digest.update(_meaning(_source(name)).encode())
        if _source(name).name == "__init__.py":
            files += _files_beside(_source(name).parent)
    if "pydyn.ops" in closure:
        files += sorted(path for path in (PACKAGE.parent / "csrc").rglob("*") if path.is_file())
    for path in files:
        digest.update(path.relative_to(PACKAGE.parent).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what figures can depend on, and the commit of the checkout."""
    names = ["pydyn", "torch", "torchvision", "numpy", "h5py", "pillow", "scikit-learn"]
    return {"commit": commit(), "python": platform.python_version()} | {name: _version(name) for name in names}


@lru_cache
def commit() -> str:
    """The checkout's commit, with `+changes` if files differ from it; `unknown` outside a checkout."""
    try:
        revision = _git("rev-parse", "--short=12", "HEAD")
        return revision + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _source(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in NO_PART or not _source(name).exists():
            continue
        found.add(name)
        # Importing a module runs its packages' __init__ first.
        waiting.append(name.rpartition(".")[0])
        for node in ast.walk(_tree(_source(name))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.split(".")[0] == "pydyn"]
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pydyn":
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _files_beside(package: Path) -> list[Path]:
    """Files of a package that are no modules: in its folder, and in folders that are no packages."""
    found: list[Path] = []
    for path in sorted(package.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found += sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file() and path.suffix not in (".py", ".so", ".pyd"):
            found.append(path)
    return found


@lru_cache
def _tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def _meaning(source: Path) -> str:
    """A module without its comments and docstrings."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
