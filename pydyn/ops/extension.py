"""What the native extension offers in this installation, and the one warning when it offers nothing."""

import importlib
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

HOW_TO_BUILD = "`pip install --no-build-isolation -e .` in pydyn's source folder, with a C++ compiler"

# What this version of the Python side calls; an extension built from older sources lacks some.
_OPS = (
    "gather_rows",
    "gather_images",
    "ambiguity_cross_entropy",
    "relu_max_pool",
    "relu_max_pool_backward",
    "population_epoch",
    "population_evaluate",
    "ablate_filters",
    "adamw_",
    "batch_norm_relu_dropout",
    "batch_norm_relu_dropout_backward",
    "relu_backward",
    "bias_relu_max_pool",
    "bias_relu_max_pool_backward",
    "sum_rows",
    "patches",
    "conv_3x3",
    "conv_3x3_weight_gradient",
)


@dataclass(frozen=True)
class Extension:
    """The extension as found at import.

    `problem` is None when it is in use, else one sentence on why pydyn.ops runs the torch reference instead.
    `cuda_version` is the CUDA version that its kernels were compiled with, None when it has none.
    """

    problem: str | None
    cuda_version: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether pydyn.ops runs the extension."""
        return self.problem is None


def load_extension() -> Extension:
    """Import the extension and judge whether it fits this torch and these sources."""
    try:
        built = importlib.import_module("pydyn._C")
    except ModuleNotFoundError as error:
        if error.name == "pydyn._C":
            return Extension("the native extension is not built")
        return Extension(f"the native extension does not import ({error})")
    except ImportError as error:
        return Extension(f"the native extension is built but does not import ({error})")
    if _release(built.torch_version) != _release(torch.__version__):
        # It may load all the same and then read tensors wrongly: torch's C++ classes change between releases.
        return Extension(f"the native extension was built for torch {built.torch_version}, this is {torch.__version__}")
    if missing := [op for op in _OPS if not hasattr(torch.ops.pydyn, op)]:
        return Extension(f"the native extension was built from older sources, without {', '.join(missing)}")
    return Extension(None, built.cuda_version)


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


EXTENSION = load_extension()
_warned = False


def warn_reference() -> None:
    """Warn that the slower torch reference runs, and why: once in a process, however many ops are called."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"pydyn.ops runs its slower torch reference: {EXTENSION.problem}. To build it: {HOW_TO_BUILD}.",
            RuntimeWarning,
            stacklevel=3,
        )


def has_tangent(*tensors: Tensor) -> bool:
    """Whether a forward-mode derivative is asked for. Formulas that torch.library registers have none, and torch takes it for 0:
    plain torch operations make it."""
    return any(unpack_dual(tensor).tangent is not None for tensor in tensors)
