"""A single checkpoint file is read here part by part, and gets its new names from diffusers' converters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from modules.models.files import LoadError
from modules.models.originals import AUTOENCODER, UNET, channels, header

Weights = dict[str, torch.Tensor]


def part_weights(path: Path, name: str, config: Mapping[str, Any]) -> Weights:
    """The weights of one component, such as "vae", under diffusers' names; LoadError if there are none."""
    for beginning, convert in CONVERTERS[name].items():
        if found := weights_in(path, beginning):
            return convert(found, config)
    raise LoadError(f"{path} has no {name}: take a checkpoint that is whole.")


def with_channels(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A U-Net's configuration with as many input channels as the file's has."""
    return {**config, "in_channels": channels(header(path))}


def weights_in(path: Path, beginning: str) -> Weights:
    """The tensors of a file whose names begin so; LoadError if it is damaged."""
    try:
        with safe_open(path, "pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys() if name.startswith(beginning)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path} is damaged ({error}). Copy or download it again.") from error


def _unet(weights: Weights, config: Mapping[str, Any]) -> Weights:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return convert_ldm_unet_checkpoint(weights, config)


def _vae(weights: Weights, config: Mapping[str, Any]) -> Weights:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(weights, config)


def _clip(weights: Weights, config: Mapping[str, Any]) -> Weights:
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

    del config
    return convert_ldm_clip_checkpoint(weights)


def _open_clip(beginning: str) -> Callable[[Weights, Mapping[str, Any]], Weights]:
    def convert(weights: Weights, config: Mapping[str, Any]) -> Weights:
        from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

        like = SimpleNamespace(config=SimpleNamespace(**config))
        return convert_open_clip_checkpoint(like, weights, prefix=beginning)

    return convert


SECOND, SD2 = "conditioner.embedders.1.model.", "cond_stage_model.model."
CONVERTERS: dict[str, dict[str, Callable[[Weights, Mapping[str, Any]], Weights]]] = {
    "unet": {UNET: _unet},
    "vae": {AUTOENCODER: _vae},
    "text_encoder": {
        "conditioner.embedders.0.transformer.": _clip,
        "cond_stage_model.transformer.": _clip,
        SD2: _open_clip(SD2),
    },
    "text_encoder_2": {SECOND: _open_clip(SECOND)},
}
"""Where a component lies in a file, by what its names begin with, and what gives it diffusers' names."""
