"""What a diffusers pipeline's folder says of itself is read here, without torch: its family, and what suits
it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.tasks import Limits

PAINTING = ("text_to_image", "image_to_image", "inpaint")
EDITING = ("text_to_image", "instruct_edit")
EDITING_ONLY = ("instruct_edit",)
NO_GUIDANCE = {"guidance_scale": Limits(1.0, 1.0, 0.1)}
FLOW = {"sampler": "Euler", "schedule": "default"}


@dataclass(frozen=True)
class Kind:
    """One of diffusers' pipelines: its family here, the class that drives it, the tasks that it serves.

    `defaults` are what its authors use; `distilled` tells, from the folder, whether guidance was learned in
    and cannot be asked for, in which case `quick` is the number of steps.
    """

    family: str
    model: str
    tasks: tuple[str, ...] = PAINTING
    defaults: Mapping[str, Any] = field(default_factory=dict)
    distilled: Callable[[Path], bool] = lambda folder: False
    quick: int = 4


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError:  # told by the loader, in words
        return {}


def without_embedding(folder: Path) -> bool:
    """Whether the transformer has no input for guidance, as FLUX.1 schnell has none."""
    return not _config(folder, "transformer/config.json").get("guidance_embeds", False)


def said_distilled(folder: Path) -> bool:
    """Whether the pipeline's own configuration says so, as FLUX.2 klein's does."""
    return bool(_config(folder, "model_index.json").get("is_distilled", False))


PIPELINES: dict[str, Kind] = {
    "StableDiffusion3Pipeline": Kind(
        "sd3", "modules.models.sd3.SD3", defaults={"steps": 28, "guidance_scale": 7.0, **FLOW}
    ),
    "FluxPipeline": Kind(
        "flux", "modules.models.flux.Flux", distilled=without_embedding,
        defaults={"steps": 28, "guidance_scale": 3.5, **FLOW},
    ),
    "FluxKontextPipeline": Kind(
        "flux", "modules.models.flux.Kontext", EDITING,
        {"steps": 28, "guidance_scale": 2.5, "image_guidance_scale": 1.0, **FLOW},
    ),
    "QwenImagePipeline": Kind(
        "qwen-image", "modules.models.qwen_image.QwenImage",
        defaults={"steps": 50, "guidance_scale": 4.0, **FLOW},
    ),
    "QwenImageEditPipeline": Kind(
        "qwen-image", "modules.models.qwen_image.QwenImageEdit", EDITING_ONLY,
        {"steps": 50, "guidance_scale": 4.0, "image_guidance_scale": 1.0, **FLOW},
    ),
    "QwenImageEditPlusPipeline": Kind(
        "qwen-image", "modules.models.qwen_image.QwenImageEditPlus", EDITING_ONLY,
        {"steps": 40, "guidance_scale": 4.0, "image_guidance_scale": 1.0, **FLOW},
    ),
    "ZImagePipeline": Kind(
        "z-image", "modules.models.z_image.ZImage", defaults={"steps": 9, "guidance_scale": 1.0, **FLOW}
    ),
    "Flux2KleinPipeline": Kind(
        "flux2", "modules.models.flux2.Flux2Klein", distilled=said_distilled,
        defaults={"steps": 50, "guidance_scale": 4.0, **FLOW},
    ),
    "DiTPipeline": Kind(
        "dit", "modules.models.dit.DiT", ("class_conditional",),
        {"steps": 50, "class_scale": 4.0, "sampler": "DDIM", "schedule": "default"},
    ),
}  # fmt: skip
"""By the `_class_name` in model_index.json."""


def kind_of(folder: Path) -> Kind | None:
    """What a folder's pipeline is; None if it is none of these."""
    name = _config(folder, "model_index.json").get("_class_name")
    return PIPELINES.get(name) if isinstance(name, str) else None


def described(folder: Path) -> dict[str, Any] | None:
    """The fields of a ModelCard for a pipeline's folder that no catalogue lists; None if it is none."""
    if (kind := kind_of(folder)) is None:
        return None
    size, defaults, limits = 1024, dict(kind.defaults), {}
    if kind.distilled(folder):
        defaults |= {"steps": kind.quick, "guidance_scale": 1.0}
        limits |= NO_GUIDANCE
    if kind.family == "dit":  # its places are learned for one size
        size = 8 * _config(folder, "transformer/config.json").get("sample_size", 32)
        limits |= {"width": Limits(size, size, 64), "height": Limits(size, size, 64)}
    defaults |= {"width": size, "height": size}
    return {"family": kind.family, "tasks": kind.tasks, "width": size, "height": size,
            "defaults": defaults, "limits": limits}  # fmt: skip


def labels(folder: Path) -> list[str]:
    """The classes that a DiT folder's model_index.json names, in the order of their numbers.

    A name that two classes share is told apart by its number.
    """
    named = _config(folder, "model_index.json").get("id2label")
    if not isinstance(named, dict):
        return []
    ordered = [str(named[key]) for key in sorted(named, key=int)]
    return [name if name not in ordered[:i] else f"{name} ({i})" for i, name in enumerate(ordered)]
