"""The ControlNets of a model are loaded here, each when first asked for, and refused beside a wrong U-Net."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from modules.lean import sparing
from modules.models.control_files import read_control
from modules.models.files import LoadError, fingerprint, fingerprint_of_file, read_json, read_weights
from modules.models.latent import LatentModel
from modules.models.maps import ControlNetwork
from modules.models.networks import diffusers_network, filled

DECODER = "decoder"
"""The folder inside a ControlNet's that holds what of the U-Net learned beside it, if anything did."""

# What a ControlNet's configuration and its U-Net's must agree in, and how it is called in a sentence.
PAIRED = {
    "cross_attention_dim": "text width is",
    "in_channels": "latents have channels",
    "block_out_channels": "widths are",
    "down_block_types": "blocks are",
    "layers_per_block": "layers in a block are",
    "addition_embed_type": "extra conditioning is",
}


UNION = {"pose": 0, "depth": 1, "softedge": 2, "canny": 3, "normal": 4, "segment": 5}
"""The number that a ControlNet Union for SDXL knows a control type by (xinsir's, and diffusers')."""


def controls_of(model: LatentModel) -> Callable[[str], ControlNetwork]:
    """A function that gives the model's ControlNet for a control type.

    One that serves several types is loaded once. LoadError if it is missing, damaged, or of another U-Net.
    """
    loaded = functools.cache(functools.partial(load_control, model))
    return lambda kind: union_for(loaded(model.card.controls[kind]), kind)


def union_for(found: ControlNetwork, kind: str) -> ControlNetwork:
    """A ControlNet as it reads one kind of map; LoadError if it is a union that never learned this kind."""
    count = getattr(found.network.config, "num_control_type", None)
    if count is None:
        return found
    index = UNION.get(kind, count)
    if index >= count:
        known = ", ".join(name for name, number in UNION.items() if number < count)
        raise LoadError(f"This ControlNet Union reads no {kind} maps; it reads {known}.")
    return replace(found, network=functools.partial(_of_union, found.network, index))


def _of_union(network: Any, index: int, sample: torch.Tensor, timestep: torch.Tensor, **told: Any) -> Any:
    """A union's answer to one map, which it is told the kind of."""
    told["controlnet_cond"] = [told["controlnet_cond"]]
    kinds = sample.new_zeros(len(sample), network.config.num_control_type)
    kinds[:, index] = 1
    return network(sample, timestep, control_type=kinds, control_type_idx=[index], **told)


def load_control(model: LatentModel, source: Path) -> ControlNetwork:
    """The ControlNet in a folder, or in one file, for a model; LoadError as `controls_of`."""
    with sparing():
        from diffusers.models.controlnets.controlnet import ControlNetModel
        from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
    if source.is_dir():
        hash, config, weights = fingerprint(source), read_json(source, "config.json"), None
        union = config.get("_class_name") == "ControlNetUnionModel"
    else:
        hash, (config, weights) = fingerprint_of_file(source), read_control(source, model.unet.config)
        union = "num_control_type" in config
    _check_pair(model, source, config)
    kind: Any = ControlNetUnionModel if union else ControlNetModel
    if weights is None:
        network = diffusers_network(kind, source, model.device, model.dtype)
    else:
        known = inspect.signature(kind.__init__).parameters
        told = {name: value for name, value in config.items() if name in known}
        network = filled(lambda: kind.from_config(told), weights, source, model.device, model.dtype)
    return ControlNetwork(network, hash, _led_unet(model, source / DECODER))


def _check_pair(model: LatentModel, source: Path, config: Mapping[str, Any]) -> None:
    """LoadError, in words, if a ControlNet of this configuration was made for another U-Net."""
    latents = {"in_channels": model.unet.config.out_channels}  # a mask beside them is not for ControlNets
    for name, words in PAIRED.items():
        theirs, ours = (_plain(one.get(name)) for one in (config, {**model.unet.config, **latents}))
        if theirs != ours:
            raise LoadError(_another_pair(model, source, f"its {words} {theirs}, the model's {ours}"))
    reduces = 2 ** (len(config.get("conditioning_embedding_out_channels") or "four") - 1)
    if reduces != model.factor:
        why = f"it shrinks maps by {reduces}, the model its pictures by {model.factor}"
        raise LoadError(_another_pair(model, source, why))


def _led_unet(model: LatentModel, folder: Path) -> Any:
    """The model's U-Net with the decoder that learned beside a ControlNet; None if none did.

    Its weights are read anew, since a LoRA may hang on the model's own just now.
    """
    if not folder.is_dir():
        return None
    weights = read_weights(model.card.part("unet")) | read_weights(folder)
    build = functools.partial(type(model.unet).from_config, model.unet.config)
    return filled(build, weights, folder, model.device, model.dtype)


def _another_pair(model: LatentModel, folder: Path, why: str) -> str:
    return (
        f"The ControlNet in {folder} does not fit {model.card.title}: {why}. "
        "A ControlNet works only with models of the family that it was trained on."
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
