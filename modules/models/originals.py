"""What a single checkpoint file is, is told here from its header alone: no weights are read."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import modules

CONFIGS = modules.HOME / "presets" / "configs"
"""The configurations of the original layouts, one folder each, and CLIP's vocabulary."""

LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
UNET, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
FIRST = f"{UNET}input_blocks.0.0.weight"

LAYOUTS = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
"""The folder of configurations for a file, by what the names of its text encoder begin with."""

CONTROLNET = (
    "a ControlNet, which belongs into a model's own folder, as controlnet/pose.safetensors or the like"
)
STRANGERS = {
    "lora_": "a LoRA, which is put on a model by its name in the prompt",
    "control_model.": CONTROLNET,
    "controlnet_": CONTROLNET,
    "conditioner.embedders.0.model.": "an SDXL refiner, which cannot begin a picture",
    "zero_convs.": CONTROLNET,
    f"{UNET}double_blocks.": "a FLUX transformer, which is taken as a diffusers folder only",
    "double_blocks.": "a FLUX transformer, which is taken as a diffusers folder only",
    f"{UNET}joint_blocks.": "a Stable Diffusion 3 model, which is taken as a diffusers folder only",
    UNET: "a U-Net without its text encoder",
    "encoder.": "an autoencoder alone",
    "decoder.": "an autoencoder alone",
}
"""What else a file may be, by what some of its names begin with; the first that fits is told."""


class FileError(ValueError):
    """A file that is no checkpoint to paint with; the message is a sentence that says why, and what helps."""


class Header(NamedTuple):
    """The shapes of a safetensors file's tensors by name, and the notes of whoever wrote it."""

    shapes: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, str]


def header(path: Path) -> Header:
    """The header of a safetensors file; FileError tells missing, pickled, half-finished and damaged apart."""
    if path.suffix.lower() in PICKLES:
        raise FileError(PICKLED.format(path=path, name=path.name, stem=path.stem))
    if not path.is_file():
        raise FileError(f"{path} is missing: copy or download it again.")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= LONGEST_HEADER:
            raise FileError(f"{path} is no safetensors file: it is something else, or damaged.")
        text = stream.read(length)
    if len(text) < length:
        raise FileError(f"{path} is half a file: it ends within its own header. Copy or download it again.")
    try:
        entries = json.loads(text)
        notes = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FileError(
            f"{path} is damaged: its header makes no sense. Copy or download it again."
        ) from error
    if size != (right := 8 + length + end):
        which = "half a file" if size < right else "damaged"
        raise FileError(
            f"{path} is {which}: it has {size:,} bytes where {right:,} are right. Copy or download it again."
        )
    return Header(shapes, notes)


def layout_of(path: Path, found: Header) -> str:
    """The layout that a file has: "sd1", "sd2" or "sdxl"; FileError says what else it is."""
    for beginning, layout in LAYOUTS.items():
        if any(name.startswith(beginning) for name in found.shapes) and FIRST in found.shapes:
            if not any(name.startswith(AUTOENCODER) for name in found.shapes):
                raise FileError(f"{path} has no autoencoder: take a checkpoint that is whole.")
            return layout
    for beginning, what in STRANGERS.items():
        if any(name.startswith(beginning) for name in found.shapes):
            raise FileError(f"{path} is no checkpoint to paint with: it is {what}.")
    raise FileError(f"{path} is no Stable Diffusion checkpoint: none of its tensors has a name of one.")


def configs_for(path: Path, layout: str) -> Path:
    """The configurations of a file: those in a folder of its own name beside it, else those that ship."""
    own = path.with_suffix("")
    return own if (own / "unet" / "config.json").is_file() else CONFIGS / layout


def noise_in(path: Path, found: Header) -> dict[str, Any]:
    """What the file, or the .yaml of its name beside it, says of its noise, as diffusers' schedulers name it.

    A1111's habit: `parameterization: "v"` in that .yaml. Fine-tunes mark themselves by tensors named v_pred
    and ztsnr, or by notes. Nothing found leaves the layout's own, which for sd2 is v.
    """
    told: dict[str, Any] = {}
    spoken = found.notes.get("modelspec.prediction_type", "")
    beside = path.with_suffix(".yaml")
    text = beside.read_text("utf-8", "replace") if beside.is_file() else ""
    if said := re.search(r"parameterization:\s*[\"']?(v|eps)", text):
        spoken = said.group(1)
    if "v_pred" in found.shapes or spoken.startswith("v"):
        told["prediction_type"] = "v_prediction"
    elif spoken.startswith("eps"):
        told["prediction_type"] = "epsilon"
    if "ztsnr" in found.shapes:
        told["rescale_betas_zero_snr"] = True
    return told


def described_file(path: Path) -> dict[str, Any]:
    """The fields of a ModelCard for a checkpoint in an original layout; FileError if it is none."""
    found = header(path)
    layout = layout_of(path, found)
    configs, noise = configs_for(path, layout), noise_in(path, found)
    config = json.loads((configs / "unet" / "config.json").read_text("utf-8"))
    size = 8 * config.get("sample_size", 64)
    if layout == "sd2" and noise.get("prediction_type") == "epsilon" and size == 768:
        size = 512  # as SD 2 base has it
    beside = channels(found) - config.get("out_channels", 4)
    return {"family": "stable-diffusion-xl" if layout == "sdxl" else "stable-diffusion", "configs": configs,
            "width": size, "height": size, "noise": noise, "beside": beside}  # fmt: skip


def channels(found: Header) -> int:
    """The channels that the file's U-Net reads: 4, 8 with a picture, 9 with a mask."""
    return found.shapes[FIRST][1]


PICKLED = (
    "{path} is a pickled checkpoint, which can run any program when opened. Convert it once, safely: "
    'python -c "import torch, safetensors.torch as s; '
    "d = torch.load('{name}', 'cpu', weights_only=True); d = d.get('state_dict', d); "
    "s.save_file({{k: v.clone() for k, v in d.items() if hasattr(v, 'clone')}}, '{stem}.safetensors')\""
)
