"""A model card becomes a model here: device and dtype chosen, files checked, its family asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from modules.models.catalog import ModelCard
from modules.models.controls import controls_of
from modules.models.files import LoadError, fingerprint_of
from modules.models.folders import PIPELINES
from modules.models.pipelines import load_pipeline
from modules.models.pocket import load_pocket
from modules.models.stable_diffusion import load_stable_diffusion

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(card: ModelCard, device: str = "auto", dtype: str = "auto") -> Any:
    """The model of a card, a LatentModel or a PipelineModel, ready to paint.

    LoadError, with a sentence, if a file is missing or damaged.
    """
    hash = fingerprint_of(card)
    where = choose_device(device)
    kind = choose_dtype(dtype, where)
    model = FAMILIES[card.family](card, hash, where, kind)
    return dataclasses.replace(model, control=controls_of(model))


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


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The precision asked for; by itself float16 on CUDA and XPU, float32 elsewhere."""
    if asked == "auto":
        return torch.float16 if device.type in ("cuda", "xpu") else torch.float32
    if asked == "float16" and device.type == "cpu":
        raise LoadError(
            "dtype is 'float16', which CPUs compute slowly or not at all; use float32 or bfloat16."
        )
    return DTYPES[asked]


def set_threads() -> int:
    """Use as many CPU threads as this process may really have, and return the number.

    OMP_NUM_THREADS decides where it is set; else torch's own choice, the number of cores, is lowered to what
    the container's CPU quota and the process's affinity allow.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, min(torch.get_num_threads(), *_allowances())))
    return torch.get_num_threads()


def _there(name: str) -> bool:
    if name == "cpu":
        return True
    backend = getattr(torch.backends if name == "mps" else torch, name, None)
    return bool(backend and backend.is_available())


def _count(name: str) -> int:
    return getattr(torch, name).device_count() if name in ("cuda", "xpu") else 1


def _allowances() -> list[int]:
    found = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        found.append(len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        found.append(max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or no quota ("max")
        pass
    return found


FAMILIES: dict[str, Callable[[ModelCard, str, torch.device, torch.dtype], Any]] = {
    "pocket": load_pocket,
    "stable-diffusion": load_stable_diffusion,
    **dict.fromkeys({kind.family for kind in PIPELINES.values()}, load_pipeline),
}
