"""Where a model computes and how finely is chosen here, by what this machine really has."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from modules.models import memory
from modules.models.catalog import CONTROLNETS, Card
from modules.models.files import LoadError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGE = 250_000_000  # parameters (1 GB in float32) from which on a CPU's bfloat16 is worth other pictures
BFLOAT16 = {"avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"}  # as /proc/cpuinfo calls them
CPUINFO = Path("/proc/cpuinfo")


def choose_device(asked: str = "auto") -> torch.device:
    """The device asked for, or the best there is; LoadError names one that is not there."""
    if asked == "auto":
        return torch.device(next((name for name in ("cuda", "xpu", "mps") if _there(name)), "cpu"))
    device = torch.device(asked)
    if not _there(device.type) or (device.index or 0) >= _count(device.type):
        raise LoadError(
            f"device is {asked!r}, but there is none here that torch can use; --device cpu always works."
        )
    return device


def choose_dtype(asked: str, device: torch.device, card: Card | None = None) -> torch.dtype:
    """The precision asked for, or the one that suits device and model.

    By itself float16 on a GPU, or bfloat16 for a model whose card says that it needs it. On a CPU float32, so
    that a seed paints the same everywhere; only a large model takes bfloat16, where the CPU really has it.
    """
    if asked != "auto":
        if asked == "float16" and device.type == "cpu":
            raise LoadError(
                "dtype is 'float16', which CPUs compute slowly or not at all; use float32 or bfloat16."
            )
        return DTYPES[asked]
    if device.type != "cpu":
        wide = card is not None and bool(card.memory) and "float16" not in card.memory
        return torch.bfloat16 if wide else torch.float16
    large = card is not None and parameters(card) > LARGE
    return torch.bfloat16 if large and has_bfloat16() else torch.float32


def remark(device: torch.device, dtype: torch.dtype) -> str:
    """One honest sentence on a precision that this machine cannot really compute; else nothing."""
    if device.type == "cpu" and dtype == torch.bfloat16 and not has_bfloat16():
        return (
            "This CPU has no instructions for bfloat16 and imitates it, many times slower than float32: "
            "leave out --dtype."
        )
    return ""


@functools.cache
def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself (AVX-512 BF16, AMX, or ARM's BF16), not in imitation."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):  # torch's own, on x86
        if getattr(torch.cpu, name, bool)():
            return True
    try:
        lines = CPUINFO.read_text("utf-8").lower().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "features"))), "")
    return not BFLOAT16.isdisjoint(flags.split())


def check_room(card: Card, device: torch.device, dtype: torch.dtype) -> None:
    """LoadError where a model's weights alone would fill a CPU's memory: the system would end the studio."""
    if device.type != "cpu":
        return
    needed, there = parameters(card) * dtype.itemsize, memory.free("cpu")
    if there is not None and needed > (room := there + memory.swap()):
        name = str(dtype).removeprefix("torch.")
        raise LoadError(
            f"{card.title} needs {needed / 1e9:.1f} GB for its weights in {name}, "
            f"and {room / 1e9:.1f} GB are free: close other programs, or choose a smaller model."
        )


def parameters(card: Card) -> int:
    """How many numbers a model's safetensors files hold, read off their headers; ControlNets not counted."""
    return sum(count(path) for path in weight_files(card.folder))


def weight_files(folder: Path) -> Iterator[Path]:
    """The files that would be read of a folder: of two precisions the full one."""
    if folder.is_file():
        yield folder
        return
    files = [path for path in folder.rglob("*.safetensors") if CONTROLNETS not in path.parts]
    for path in files:
        narrow = ".fp16." in path.name or ".non_ema" in path.name
        if not narrow or all(other is path or other.parent != path.parent for other in files):
            yield path


@functools.lru_cache(maxsize=256)
def count(path: Path) -> int:
    """The numbers in one safetensors file; 0 of a file that cannot be read, which loading will tell of."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, 100_000_000)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return 0


def _there(name: str) -> bool:
    if name == "cpu":
        return True
    backend = getattr(torch.backends if name == "mps" else torch, name, None)
    return bool(backend and backend.is_available())


def _count(name: str) -> int:
    return getattr(torch, name).device_count() if name in ("cuda", "xpu") else 1
