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
from modules.models.devices import check_room, choose_device, choose_dtype
from modules.models.files import fingerprint_of
from modules.models.folders import PIPELINES
from modules.models.offload import TOGETHER, offloaded, plan
from modules.models.pipelines import load_pipeline
from modules.models.pocket import load_pocket
from modules.models.stable_diffusion import load_stable_diffusion


def load(card: ModelCard, device: str = "auto", dtype: str = "auto") -> Any:
    """The model of a card, a LatentModel or a PipelineModel, ready to paint.

    LoadError, with a sentence, if a file is missing or damaged.
    """
    hash = fingerprint_of(card)
    where = choose_device(device)
    kind = choose_dtype(dtype, where, card)
    check_room(card, where, kind)
    way = plan(card, where, kind)
    at = where if way == TOGETHER else torch.device("cpu")
    model = offloaded(FAMILIES[card.family](card, hash, at, kind), where, way)
    return dataclasses.replace(model, control=controls_of(model))


def set_threads() -> int:
    """Use as many CPU threads as this process may really have, and return the number.

    OMP_NUM_THREADS decides where it is set; else torch's own choice, the number of cores, is lowered to what
    the container's CPU quota and the process's affinity allow.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, min(torch.get_num_threads(), *_allowances())))
    return torch.get_num_threads()


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
    "stable-diffusion-xl": load_stable_diffusion,
    **dict.fromkeys({kind.family for kind in PIPELINES.values()}, load_pipeline),
}
