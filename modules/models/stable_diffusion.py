"""Stable Diffusion folders, as diffusers saves them, are loaded here."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from modules.conditions.text import ClipText
from modules.diffusion.noise import NoiseSchedule
from modules.models.catalog import ModelCard
from modules.models.files import read_json, read_weights
from modules.models.latent import LatentModel
from modules.models.networks import autoencoder_dtype, diffusers_network, filled


def load_stable_diffusion(
    card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype
) -> LatentModel:
    """A model of Stable Diffusion's layout; LoadError, in words, if a component is missing or damaged."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    folder = card.part("text_encoder")
    config = CLIPTextConfig.from_dict(read_json(folder, "config.json"))
    clip = filled(
        lambda: CLIPTextModel(config),
        _clip_names(read_weights(folder), CLIPTextModel, config),
        folder, device, dtype,
    )  # fmt: skip
    words: Any = CLIPTokenizer.from_pretrained(card.part("tokenizer"), local_files_only=True)
    autoencoder = diffusers_network(AutoencoderKL, card.part("vae"), device, autoencoder_dtype(dtype))
    return LatentModel(
        card=card,
        unet=diffusers_network(UNet2DConditionModel, card.part("unet"), device, dtype),
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


def _clip_names(weights: dict[str, torch.Tensor], kind: Any, config: Any) -> dict[str, torch.Tensor]:
    """CLIP weights under the names of this transformers: 5.6 dropped the prefix that older files carry."""
    with torch.device("meta"):
        flat = not any(name.startswith("text_model.") for name in kind(config).state_dict())
    weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    weights.pop("embeddings.position_ids", None)
    return weights if flat else {f"text_model.{name}": value for name, value in weights.items()}
