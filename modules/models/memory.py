"""How much memory a device has free, holds and held at most is read here, and whether it ran out."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RAN_OUT = re.compile(
    "out of memory|can't allocate memory|not enough memory|out_of_(device|host)_memory|bad_alloc", re.I
)
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GROUP = Path("/sys/fs/cgroup")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left: torch's own, CUDA's, MPS's, XPU's or the CPU's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(RAN_OUT.search(str(error)))


def let_go(device: str) -> None:
    """Give back what nothing holds any more: cycles first, then the device's cache."""
    gc.collect()
    if (backend := _backend(device)) is not None:
        backend.empty_cache()


def free(device: str) -> int | None:
    """Bytes that a new tensor on the device could take now; None where nobody tells."""
    return FREE.get(device.partition(":")[0], _nobody_tells)(device)


def swap() -> int:
    """Bytes that the system can still put aside for a CPU."""
    try:
        import psutil
    except ImportError:
        return 0
    return psutil.swap_memory().free


def held(device: str) -> int | None:
    """Bytes that this process holds on the device: tensors on an accelerator, everything on a CPU."""
    if device.startswith("cpu"):
        return _status("VmRSS")
    backend = _backend(device)
    for name in ("memory_allocated", "current_allocated_memory"):  # the second is MPS's
        if hasattr(backend, name):
            return getattr(backend, name)()
    return None


def forget_peak(device: str) -> None:
    """From here on `peak` tells of what comes."""
    if device.startswith("cpu"):
        with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak is then the process's own
            FORGET.write_text("5", "ascii")
    elif hasattr(backend := _backend(device), "reset_peak_memory_stats"):
        backend.reset_peak_memory_stats()


def peak(device: str) -> int | None:
    """The most bytes held on the device since `forget_peak`; None where nobody counts."""
    if device.startswith("cpu"):
        return _status("VmHWM")
    backend = _backend(device)
    return backend.max_memory_allocated() if hasattr(backend, "max_memory_allocated") else None


def _backend(device: str) -> Any:
    """torch.cuda, torch.xpu or torch.mps; None for a CPU, and before torch is there at all."""
    torch = sys.modules.get("torch")
    return getattr(torch, device.partition(":")[0], None) if torch and not device.startswith("cpu") else None


def _nobody_tells(_: str) -> None:
    return None


def _free_on_cpu(_: str) -> int | None:
    try:
        import psutil  # comes with accelerate
    except ImportError:
        return None
    found = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit, used = (int((GROUP / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    return min(found)


def _free_on_accelerator(device: str) -> int | None:
    backend = _backend(device)
    if not hasattr(backend, "mem_get_info") or not backend.is_available():
        return None
    cached = backend.memory_reserved() - backend.memory_allocated()  # torch's own, to be used again
    return backend.mem_get_info()[0] + cached


def _free_on_mps(device: str) -> int | None:
    backend = _backend(device)
    if not hasattr(backend, "recommended_max_memory"):
        return None
    return max(0, backend.recommended_max_memory() - backend.current_allocated_memory())


FREE: dict[str, Callable[[str], int | None]] = {
    "cpu": _free_on_cpu,
    "cuda": _free_on_accelerator,
    "xpu": _free_on_accelerator,
    "mps": _free_on_mps,
}


def _status(name: str) -> int | None:
    """A line of Linux's account of this process, in bytes."""
    try:
        found = re.search(rf"{name}:\s*(\d+) kB", STATUS.read_text("ascii"))
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
