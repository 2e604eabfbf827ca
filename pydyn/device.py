"""Where a training runs, and in which precision."""

import ctypes
import os
from dataclasses import dataclass

import torch

from pydyn.errors import RunError
from pydyn.processor import processor

# By these a user holds back the instructions that oneDNN (under two names) and torch's own kernels use.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


@dataclass(frozen=True)
class Device:
    """A device and what a history can depend on beside it."""

    torch: torch.device
    name: str
    """A GPU's model; a CPU's, with the instructions that its results depend on."""
    threads: int


def open_device(wanted: str, threads: int) -> Device:
    """Choose a device and set this process up for it, for the same results every time.

    Args:
        wanted: `auto` (a GPU if there is one), `cpu` or `cuda`.
        threads: of the CPU. On the CPU another number of threads may change a sum's order, and with it the last bits.

    Raises:
        RunError: `cuda` without a usable GPU, or more threads than cores.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RunError("device = 'cuda': torch sees no GPU; use device: cpu or auto (`pydyn doctor` tells more)")
    cores = len(os.sched_getaffinity(0))
    if threads > cores:
        raise RunError(f"threads = {threads}: this process may use {cores} cores; lower `threads`")
    torch.set_num_threads(threads)
    if wanted == "cpu" or not torch.cuda.is_available():
        keep_memory()
        return Device(torch.device("cpu"), _cpu_name(), threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    return Device(torch.device("cuda"), torch.cuda.get_device_name(), threads)


def _cpu_name() -> str:
    # oneDNN's convolutions give other bits with avx512_bf16 or AMX, of which torch's capability says nothing.
    found = [processor(), torch.backends.cpu.get_cpu_capability()]
    if torch.cpu._is_avx512_bf16_supported():
        found.append("AVX512-BF16")
    if torch.cpu._is_amx_tile_supported():
        found.append("AMX")
    return ", ".join(found + [f"{name}={os.environ[name]}" for name in _LIMITS if os.environ.get(name)])


def keep_memory() -> None:
    """Have the C library keep what this process frees, as torch's allocator on CUDA does.

    Else it returns a batch's memory to the system, or not, depending on what else was allocated before, and takes it again page
    by page for the next batch. Measured with cnn_a on two cores, batch 64: 5 % of an epoch.
    """
    m_trim_threshold, m_mmap_max, never = -1, -4, 2**31 - 1
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, never)


def resolve_precision(wanted: str, device: torch.device) -> str:
    """`bf16` or `fp32`; for `auto`, bf16 where the device has instructions for it.

    Measured with cnn_a, one thread of a CPU with AMX, batch 128: bf16 957 images/s, fp32 359. Without such instructions bf16 is
    emulated and slower than fp32.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() else "fp32"
