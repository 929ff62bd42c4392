"""Writes a tiny pipeline as one file in the layout that Stable Diffusion's makers used, names and all."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
TOP = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_original(folder: Path, file: Path, notes: dict[str, str] | None = None) -> Path:
    """The pipeline in a folder as one file, its configurations in a folder of the file's name beside it."""
    tensors = {f"model.diffusion_model.{name}": value for name, value in unet(folder / "unet").items()}
    tensors |= {f"first_stage_model.{name}": value for name, value in autoencoder(folder).items()}
    tensors |= texts(folder)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, file, notes)
    for path in folder.rglob("*.json"):
        if "tokenizer" not in path.parts[-2] and not path.name.endswith("index.json"):
            goal = file.with_suffix("") / path.relative_to(folder)
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(path.read_bytes())
    return file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def renamed(name: str, names: dict[str, str]) -> str:
    return next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)


def write_original_control(folder: Path, file: Path, start: str = "control_model.") -> Path:
    """The ControlNet in a folder as one file, under its authors' names, each after `start`."""
    names = {
        "controlnet_mid_block": "middle_block_out.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    }
    names["controlnet_cond_embedding.conv_out"] = "input_hint_block.14"
    names |= {f"controlnet_cond_embedding.blocks.{i}.": f"input_hint_block.{2 * i + 2}." for i in range(6)}
    found = {renamed(name, names): value for name, value in unet(folder).items()}
    found = {
        re.sub(r"^controlnet_down_blocks\.(\d+)", r"zero_convs.\1.0", name): v for name, v in found.items()
    }
    save_file({start + name: value.contiguous().clone() for name, value in found.items()}, file)
    return file


def unet(folder: Path) -> dict[str, torch.Tensor]:
    config = json.loads((folder / "config.json").read_text())
    each, found = config["layers_per_block"] + 1, {}
    attends = ["CrossAttn" in kind for kind in config.get("up_block_types", ())]
    for name, value in weights(folder).items():
        kind, _, rest = name.partition(".")
        if kind == "mid_block":
            part, i, inner = rest.split(".", 2)
            new = f"middle_block.{2 * int(i) if part == 'resnets' else 1}.{renamed(inner, RESNET)}"
        elif kind in ("down_blocks", "up_blocks"):
            block, part, i, inner = rest.split(".", 3)
            down, at = kind == "down_blocks", int(block) * each + int(i)
            if part == "downsamplers":
                new = f"input_blocks.{(int(block) + 1) * each}.0.{inner.replace('conv', 'op')}"
            elif part == "upsamplers":
                new = f"output_blocks.{(int(block) + 1) * each - 1}.{1 + attends[int(block)]}.{inner}"
            else:
                where = f"input_blocks.{at + 1}" if down else f"output_blocks.{at}"
                new = f"{where}.{int(part == 'attentions')}.{renamed(inner, RESNET)}"
        else:
            new = renamed(name, TOP)
        found[new] = value
    return found


def autoencoder(folder: Path) -> dict[str, torch.Tensor]:
    config, found = json.loads((folder / "vae" / "config.json").read_text()), {}
    last = len(config["block_out_channels"]) - 1
    for name, value in weights(folder / "vae").items():
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        if "mid_block.attentions.0." in name:
            start, inner = name.split("mid_block.attentions.0.")
            name = f"{start}mid.attn_1.{renamed(inner, ATTENTION)}"
            if value.ndim == 2:  # the makers wrote these as convolutions
                value = value[:, :, None, None]
        found[name] = value
    return found


def texts(folder: Path) -> dict[str, torch.Tensor]:
    """SD 1's CLIP by its own names; SD 2's and SDXL's second one by OpenCLIP's."""
    first, large = weights(folder / "text_encoder"), (folder / "text_encoder_2").is_dir()
    if large:
        start = "conditioner.embedders.0.transformer."
        one = {start + name: value for name, value in prefixed(first).items()}
        return one | open_clip(weights(folder / "text_encoder_2"), "conditioner.embedders.1.model.")
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    if scheduler["prediction_type"] == "v_prediction":
        return open_clip(first, "cond_stage_model.model.", spare=True)
    return {f"cond_stage_model.transformer.{name}": value for name, value in prefixed(first).items()}


def prefixed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors.items()}
    return named | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def open_clip(tensors: dict[str, torch.Tensor], start: str, spare: bool = False) -> dict[str, torch.Tensor]:
    """`spare`: with a last layer that nobody reads, as SD 2's files have it."""
    tensors = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    width = tensors["final_layer_norm.weight"].shape[0]
    found = {"positional_embedding": tensors["embeddings.position_embedding.weight"],
             "token_embedding.weight": tensors["embeddings.token_embedding.weight"],
             "ln_final.weight": tensors["final_layer_norm.weight"],
             "ln_final.bias": tensors["final_layer_norm.bias"], "logit_scale": torch.tensor(4.6),
             "text_projection": tensors.get("text_projection.weight", torch.eye(width)).T}  # fmt: skip
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layers."))
    for i in range(layers + spare):
        ours = f"encoder.layers.{min(i, layers - 1)}."
        block = f"transformer.resblocks.{i}."
        inside = {name.removeprefix(ours): value for name, value in tensors.items() if name.startswith(ours)}
        for kind in ("weight", "bias"):
            joined = [inside.pop(f"self_attn.{which}_proj.{kind}") for which in "qkv"]
            found[f"{block}attn.in_proj_{kind}"] = torch.cat(joined)
        found |= {block + renamed(name, OPEN_CLIP): value for name, value in inside.items()}
    return {start + name: value for name, value in found.items()}
