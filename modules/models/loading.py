"""A model folder becomes a LatentModel here: device and dtype chosen, files checked, networks filled."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from tokenizers import Tokenizer

from modules.conditions.text import BertText, ClipText
from modules.diffusion.noise import NoiseSchedule
from modules.models.catalog import ModelCard
from modules.models.files import LoadError, fingerprint, read_json, read_weights
from modules.models.latent import ClassTokens, ControlNetwork, LatentModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(card: ModelCard, device: str = "auto", dtype: str = "auto") -> LatentModel:
    """The model of a card, ready to paint; LoadError, with a sentence, if a file is missing or damaged."""
    hash = fingerprint(card.folder)
    where = choose_device(device)
    kind = choose_dtype(dtype, where)
    model = FAMILIES[card.family](card, hash, where, kind)
    return dataclasses.replace(model, control=functools.cache(functools.partial(load_control, model)))


def load_control(model: LatentModel, kind: str) -> ControlNetwork:
    """The ControlNet of a model for one control type; LoadError if missing, damaged, or of another U-Net."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    folder = model.card.controls[kind]
    hash = fingerprint(folder)
    config = read_json(folder, "config.json")
    for name, words in PAIRED.items():
        theirs, ours = (_plain(one.get(name)) for one in (config, model.unet.config))
        if theirs != ours:
            why = f"its {words} {theirs}, the model's {ours}"
            raise LoadError(_another_pair(model, kind, why))
    reduces = 2 ** (len(config.get("conditioning_embedding_out_channels") or "four") - 1)
    if reduces != model.factor:
        why = f"it shrinks maps by {reduces}, the model its pictures by {model.factor}"
        raise LoadError(_another_pair(model, kind, why))
    return ControlNetwork(_diffusers(ControlNetModel, folder, model.device, model.dtype), hash)


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


def _load_pocket(card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype) -> LatentModel:
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertModel

    folder = card.folder
    config = BertConfig.from_dict(read_json(folder, "text_encoder/config.json"))
    bert = _filled(
        lambda: BertModel(config, add_pooling_layer=False),
        _without(read_weights(folder / "text_encoder"), "pooler.", "embeddings.position_ids"),
        folder / "text_encoder", device, torch.float32,
    )  # fmt: skip
    names = tuple(card.classes())
    weight = load_file(folder / "class_embedding" / "class_embedding.safetensors")["weight"]
    if len(weight) != len(names) + 1:
        raise LoadError(
            f"{folder / 'class_embedding'} has {len(weight)} rows for {len(names)} classes and none."
        )
    autoencoder = _diffusers(AutoencoderDC, folder / "vae", device, _autoencoder_dtype(dtype))
    return LatentModel(
        card=card,
        unet=_diffusers(UNet2DConditionModel, folder / "unet", device, dtype),
        autoencoder=autoencoder,
        text=BertText(bert, _tokenizer(folder / "tokenizer")),
        classes=ClassTokens(names=names, weight=weight.to(device, torch.float32)),
        noise_schedule=NoiseSchedule.from_config(card.scheduler_config()),
        factor=autoencoder.spatial_compression_ratio,
        hash=hash, device=device, dtype=dtype,
    )  # fmt: skip


def _load_stable_diffusion(
    card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype
) -> LatentModel:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    folder = card.folder
    config = CLIPTextConfig.from_dict(read_json(folder, "text_encoder/config.json"))
    clip = _filled(
        lambda: CLIPTextModel(config),
        _clip_names(read_weights(folder / "text_encoder"), CLIPTextModel, config),
        folder / "text_encoder", device, dtype,
    )  # fmt: skip
    words: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    autoencoder = _diffusers(AutoencoderKL, folder / "vae", device, _autoencoder_dtype(dtype))
    return LatentModel(
        card=card,
        unet=_diffusers(UNet2DConditionModel, folder / "unet", device, dtype),
        autoencoder=autoencoder,
        text=ClipText(
            clip, words.backend_tokenizer, words.bos_token_id, words.eos_token_id, words.pad_token_id,
            config.max_position_embeddings,
        ),
        classes=None,
        noise_schedule=NoiseSchedule.from_config(card.scheduler_config()),
        factor=2 ** (len(autoencoder.config.block_out_channels) - 1),
        hash=hash, device=device, dtype=dtype,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[ModelCard, str, torch.device, torch.dtype], LatentModel]] = {
    "pocket": _load_pocket,
    "stable-diffusion": _load_stable_diffusion,
}


# What a ControlNet's configuration and its U-Net's must agree in, and how it is called in a sentence.
PAIRED = {
    "cross_attention_dim": "text width is",
    "in_channels": "latents have channels",
    "block_out_channels": "widths are",
    "down_block_types": "blocks are",
    "layers_per_block": "layers in a block are",
    "addition_embed_type": "extra conditioning is",
}


def _another_pair(model: LatentModel, kind: str, why: str) -> str:
    return (
        f"The {kind} ControlNet in {model.card.controls[kind]} does not fit {model.card.title}: {why}. "
        "A ControlNet works only with models of the family that it was trained on."
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _diffusers(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    config = {
        key: value for key, value in read_json(folder, "config.json").items() if not key.startswith("_")
    }
    return _filled(lambda: kind.from_config(config), read_weights(folder), folder, device, dtype)


def _filled(
    build: Callable[[], Any],
    weights: dict[str, torch.Tensor],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """A network built without memory and given its weights; LoadError unless they fit exactly."""
    with torch.device("meta"):
        network = build()
    weights = {name: value.to(device, dtype) for name, value in weights.items()}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise LoadError(f"The weights in {folder} do not fit its config.json: {why[:200]}") from error
    return network.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise LoadError(f"{path} is missing: copy or download the model again.")
    return Tokenizer.from_file(str(path))


def _autoencoder_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype  # decoders overflow in half precision


def _without(weights: dict[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith(prefixes)}


def _clip_names(weights: dict[str, torch.Tensor], kind: Any, config: Any) -> dict[str, torch.Tensor]:
    """CLIP weights under the names of this transformers: 5.6 dropped the prefix that older files carry."""
    with torch.device("meta"):
        flat = not any(name.startswith("text_model.") for name in kind(config).state_dict())
    weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    weights.pop("embeddings.position_ids", None)
    return weights if flat else {f"text_model.{name}": value for name, value in weights.items()}
