"""Which processor the work runs on. Importing this module does not import torch."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")


def resolve_device(name: str = "auto") -> torch.device:
    """'auto' -> cuda, then mps, then cpu. A device asked for by name and absent raises InputError, never falls back."""
    import torch

    if name not in DEVICES:
        raise InputError(
            "device_unknown",
            f"The device {name!r} is not known.",
            f"A device is one of {', '.join(DEVICES)}.",
            "Choose one of them; 'auto' takes the fastest that this machine has.",
        )
    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if name == "cuda" and not has_cuda:
        raise InputError(
            "device_absent",
            "The device 'cuda' cannot be used.",
            f"torch {torch.__version__} finds no CUDA device on this machine.",
            "Choose 'auto' or 'cpu', or install an NVIDIA driver and a CUDA build of torch.",
        )
    if name == "mps" and not has_mps:
        raise InputError(
            "device_absent",
            "The device 'mps' cannot be used.",
            f"torch {torch.__version__} finds no Apple GPU on this machine.",
            "Choose 'auto' or 'cpu'; 'mps' needs an Apple-silicon Mac.",
        )
    return torch.device(name)


def describe_device(device: torch.device) -> dict[str, Any]:
    """JSON for reports: {"type", "name", "torch", "memory_gb" (CUDA only), "threads" (CPU only)}."""
    import torch

    info: dict[str, Any] = {"type": device.type, "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        info["name"] = properties.name
        info["memory_gb"] = round(properties.total_memory / 2**30, 1)
    else:
        info["name"] = platform.processor() or platform.machine()
        if device.type == "cpu":
            info["threads"] = torch.get_num_threads()
    return info


def peak_memory() -> int | None:
    """Most bytes of main memory that this process has held since it began; None where the system does not tell."""
    import sys

    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        class Counters(ctypes.Structure):
            _fields_ = (
                ("size", wintypes.DWORD), ("faults", wintypes.DWORD),
                *((name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")),
            )  # fmt: skip

        counters = Counters(size=ctypes.sizeof(Counters))
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        read = kernel.K32GetProcessMemoryInfo
        read.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
        return int(counters.peak) if read(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size) else None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def release_device_memory() -> None:
    """Give cached blocks back to the driver. Does nothing where torch was never imported."""
    import gc
    import sys

    gc.collect()
    torch_module = sys.modules.get("torch")
    if torch_module is None:
        return
    if torch_module.cuda.is_available():
        torch_module.cuda.empty_cache()
    elif torch_module.backends.mps.is_available():
        torch_module.mps.empty_cache()
