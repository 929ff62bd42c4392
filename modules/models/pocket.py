"""Pocket's layout is loaded here: a small U-Net, a deep autoencoder, MiniLM for words, a token a class."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from modules.conditions.text import BertText
from modules.diffusion.noise import NoiseSchedule
from modules.lean import sparing
from modules.models.bert import Bert
from modules.models.catalog import ModelCard
from modules.models.conditioning import ClassTokens
from modules.models.files import LoadError, read_json, read_weights
from modules.models.latent import LatentModel
from modules.models.networks import autoencoder_dtype, diffusers_network, filled, without

with sparing():
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


def load_pocket(card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype) -> LatentModel:
    """Pocket or a model of its layout; LoadError, in words, if a component is missing or damaged."""
    words = card.part("text_encoder")
    config = read_json(words, "config.json")
    bert = filled(
        lambda: Bert(config),
        without(read_weights(words), "pooler.", "embeddings.position_ids"),
        words, device, torch.float32,
    )  # fmt: skip
    autoencoder = diffusers_network(AutoencoderDC, card.part("vae"), device, autoencoder_dtype(dtype))
    return LatentModel(
        card=card,
        unet=diffusers_network(UNet2DConditionModel, card.part("unet"), device, dtype),
        autoencoder=autoencoder,
        text=BertText(bert, _tokenizer(card.part("tokenizer"))),
        classes=_classes(card, device),
        noise_schedule=NoiseSchedule.from_config(card.scheduler_config()),
        factor=autoencoder.spatial_compression_ratio,
        hash=hash, device=device, dtype=dtype,
    )  # fmt: skip


def _classes(card: ModelCard, device: torch.device) -> ClassTokens:
    folder, names = card.part("class_embedding"), tuple(card.classes())
    weight = load_file(folder / "class_embedding.safetensors")["weight"]
    if len(weight) != len(names) + 1:
        raise LoadError(f"{folder} has {len(weight)} rows for {len(names)} classes and none.")
    return ClassTokens(names=names, weight=weight.to(device, torch.float32))


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise LoadError(f"{path} is missing: copy or download the model again.")
    return Tokenizer.from_file(str(path))
