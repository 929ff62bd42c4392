"""A ControlNet in one file is told from other files here, and gets diffusers' names and a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.models.files import LoadError
from modules.models.originals import FileError, header
from modules.models.single_file import Weights, weights_in

WITHIN = "control_model."
"""What every name begins with where a ControlNet lies in a whole checkpoint, as its authors kept it."""

SIGNS = {
    "controlnet_cond_embedding.conv_in.weight": "",
    f"{WITHIN}zero_convs.0.0.weight": WITHIN,
    "zero_convs.0.0.weight": "",
}
"""A name that only a ControlNet has, in diffusers' layout and in its authors', and what of the file is it."""

OTHERS = {
    "lora_controlnet": "a Control-LoRA, which holds only what differs from a model",
    "lora_": "a LoRA, which is put on a model by its name in the prompt",
    "adapter.": "a T2I-Adapter",
    "body.": "a T2I-Adapter",
    "model.diffusion_model.": "a checkpoint to paint with",
}
"""What else a file in a folder of ControlNets may be, by what some of its names begin with."""


def read_control(path: Path, unet: Mapping[str, Any]) -> tuple[dict[str, Any], Weights]:
    """The configuration and the weights of a ControlNet beside a U-Net of this configuration.

    What a file's tensors tell of its own shape is in the configuration, all else is the U-Net's. LoadError,
    in words, for a file that is missing, pickled, half there, or no ControlNet.
    """
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    try:
        names = header(path).shapes
    except FileError as error:
        raise LoadError(str(error)) from error
    beginning = next((start for sign, start in SIGNS.items() if sign in names), None)
    if beginning is None:
        other = (what for start, what in OTHERS.items() if any(name.startswith(start) for name in names))
        raise LoadError(f"{path} is no ControlNet: it is {next(other, 'something else')}.")
    try:
        converted = convert_controlnet_checkpoint(weights_in(path, beginning), unet)
        weights = {name: value for name, value in converted.items() if value is not None}
        return {**unet, **shape_of(weights)}, weights
    except (KeyError, ValueError, IndexError) as error:
        raise LoadError(f"{path} is no whole ControlNet ({error}): copy or download it again.") from error


def shape_of(weights: Weights) -> dict[str, Any]:
    """What the tensors of a ControlNet, under diffusers' names, tell of its configuration."""
    levels = range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("down_blocks.")))
    attends = [any(name.startswith(f"down_blocks.{i}.attentions.") for name in weights) for i in levels]
    reads = [value for name, value in weights.items() if name.endswith("attn2.to_k.weight")]
    found = {
        "in_channels": weights["conv_in.weight"].shape[1],
        "block_out_channels": [weights[f"down_blocks.{i}.resnets.0.conv2.weight"].shape[0] for i in levels],
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends],
        "layers_per_block": sum(
            name.startswith("down_blocks.0.resnets.") and name.endswith(".conv2.weight") for name in weights
        ),
        "cross_attention_dim": reads[0].shape[1] if reads else None,
        "addition_embed_type": "text_time" if "add_embedding.linear_1.weight" in weights else None,
        "conditioning_embedding_out_channels": _steps_of_the_map(weights),
    }
    if (kinds := weights.get("task_embedding")) is not None:  # a ControlNet Union
        found |= {"num_control_type": kinds.shape[0], "num_trans_channel": kinds.shape[1]}
        found |= {"num_proj_channel": weights["spatial_ch_projs.weight"].shape[0]}
    return found


def _steps_of_the_map(weights: Weights) -> list[int]:
    """The widths through which a map passes: blocks come in pairs, of which the second halves and widens."""
    inside = "controlnet_cond_embedding"
    pairs = sum(name.startswith(f"{inside}.blocks.") and name.endswith("weight") for name in weights) // 2
    widened = [weights[f"{inside}.blocks.{2 * i + 1}.weight"].shape[0] for i in range(pairs)]
    return [weights[f"{inside}.conv_in.weight"].shape[0], *widened]
