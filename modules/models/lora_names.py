"""Which layer of which network a name in a LoRA file means: kohya's, diffusers' and peft's ways to say it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from modules.models.lycoris import FACTORS

PARTS = {  # how a tensor's name ends, and what it then is; the longest ending counts
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "middle",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "alpha": "alpha",
    "dora_scale": "magnitude",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector.default.weight": "magnitude",
    "lora_B.bias": "bias",
    "diff_b": "bias",
    "diff": "difference",
    **{name: name for name in FACTORS},
}
OTHER_KINDS = {  # parts of a name that only other kinds of adapters have
    "oft_": "an OFT",
    "a1.weight": "a GLoRA",
    "on_input": "an (IA)³",
    "w_norm": "an adapter of norms",
    "bundle_emb": "a LoRA with embeddings inside",
}
NETWORKS = {  # how a layer's name begins, and whose layer it then is; the first that fits counts
    "base_model.model.": "unet",
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "unet.": "unet",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "model.diffusion_model.": "unet",
    "diffusion_model.": "unet",
}
FOREIGN = ("lora_transformer_", "transformer.", "lora_te3_", "text_encoder_3.")
"""What the names in files for SD3, FLUX and their kin begin with."""

_OLD = re.compile(r"^(?P<layer>.*?)(?:\.processor)?\.to_(?P<which>q|k|v|out)_(?P<part>lora\..*)$")
_TEXT = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


def split(name: str) -> tuple[str, str] | None:
    """The layer and the part (a value of PARTS) that a tensor's name speaks of; None if it is no LoRA's."""
    if old := _OLD.match(name):  # diffusers before it used peft
        ours = {**{which: f"to_{which}" for which in "qkv"}, "out": "to_out.0"}
        which = (_TEXT if name.startswith("text_encoder") else ours)[old["which"]]
        name = f"{old['layer']}.{which}.{old['part']}"
    for i in range(len(name)):
        if (i == 0 or name[i - 1] == ".") and (part := PARTS.get(name[i:])):
            return name[: max(0, i - 1)], part
    return None


def other_kind(name: str) -> str | None:
    """What a tensor's name says that the file is instead of a LoRA, if it says so."""
    return next((kind for sign, kind in OTHER_KINDS.items() if sign in name), None)


def place(layer: str) -> tuple[str, str]:
    """The network of a layer and the layer's flat name in it, as `layers_of` has it."""
    for prefix, network in NETWORKS.items():
        if layer.startswith(prefix):
            return network, _flat(layer.removeprefix(prefix), network)
    return "unet", _flat(layer, "unet")


def layers_of(network: Any, name: str) -> dict[str, Any]:
    """The layers of a network that a LoRA can change, by their flat names; a U-Net's also by SD's own."""
    found = {
        path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    flat = {_flat(path, name): layer for path, layer in found.items()}
    if name != "unet":
        return flat
    aliases = dict(original_names(network))
    longest = sorted(aliases, key=len, reverse=True)
    for path, layer in found.items():
        for prefix in longest:
            if path == prefix or path.startswith(prefix + "."):
                said = aliases[prefix] + path.removeprefix(prefix)
                flat.setdefault(_flat(said, name), layer)
                break
    return flat


def original_names(unet: Any) -> Iterator[tuple[str, str]]:
    """Pairs of a diffusers name and the one that Stable Diffusion's own code has for it."""
    yield from OUTER
    at = 1
    for i, block in enumerate(unet.down_blocks):
        for j, _ in enumerate(block.resnets):
            yield from _of_resnet(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{at}.0")
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{at}.1"
            at += 1
        if getattr(block, "downsamplers", None):
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{at}.0.op"
            at += 1
    yield from _of_resnet("mid_block.resnets.0", "middle_block.0")
    yield "mid_block.attentions.0", "middle_block.1"
    yield from _of_resnet("mid_block.resnets.1", "middle_block.2")
    at = 0
    for i, block in enumerate(unet.up_blocks):
        attends = bool(getattr(block, "attentions", None))
        for j, _ in enumerate(block.resnets):
            yield from _of_resnet(f"up_blocks.{i}.resnets.{j}", f"output_blocks.{at}.0")
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{at}.1"
            at += 1
        yield f"up_blocks.{i}.upsamplers.0", f"output_blocks.{at - 1}.{2 if attends else 1}"


OUTER = (
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_out", "out.2"),
)
RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _of_resnet(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name, said in RESNET.items():
        yield f"{ours}.{name}", f"{theirs}.{said}"


def _flat(path: str, network: str) -> str:
    flat = path.replace(".", "_")
    return flat if network == "unet" else flat.removeprefix("text_model_")
