"""Stable Diffusion 1, 2 and XL, and their relatives with more input channels, are loaded here."""

from __future__ import annotations

from typing import Any

import torch

from modules.conditions.text import ClipText, PenultimateClip, TwoClips
from modules.conditions.windows import CLIP_TOKENS
from modules.diffusion.noise import NoiseSchedule
from modules.lean import sparing
from modules.models.catalog import ModelCard
from modules.models.clip_words import has_own, marks, vocabulary
from modules.models.conditioning import by_words, by_words_and_size
from modules.models.files import LoadError, read_json, read_weights
from modules.models.latent import LatentModel
from modules.models.networks import autoencoder_dtype, config_of, diffusers_network, filled, known_to
from modules.models.single_file import part_weights, with_channels

with sparing():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

ZEROES = "force_zeros_for_empty_prompt"


def load_stable_diffusion(
    card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype
) -> LatentModel:
    """A model of Stable Diffusion's layout; LoadError, in words, if a component is missing or damaged."""
    unet = _network(card, "unet", UNet2DConditionModel, device, dtype)
    autoencoder = _network(card, "vae", AutoencoderKL, device, autoencoder_dtype(dtype))
    large = unet.config.addition_embed_type == "text_time"
    encoders = _encoders(card, large, device, dtype)
    given, wanted = sum(one.width for one in encoders), unet.config.cross_attention_dim
    if given != wanted:
        raise LoadError(f"The U-Net of {card.title} reads {wanted} numbers a token; its text has {given}.")
    return LatentModel(
        card=card,
        unet=unet,
        autoencoder=autoencoder,
        text=TwoClips(*encoders) if large else encoders[0],
        classes=None,
        noise_schedule=NoiseSchedule.from_config(card.scheduler_config()),
        factor=2 ** (len(autoencoder.config.block_out_channels) - 1),
        hash=hash, device=device, dtype=dtype,
        tell=by_words_and_size if large else by_words,
        zeroes_empty=large and _zeroes_empty(card),
        hears_guidance=unet.config.time_cond_proj_dim is not None,
    )  # fmt: skip


def _network(card: ModelCard, name: str, kind: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A network out of the model's folder, or out of its single file."""
    if not card.folder.is_file():
        return diffusers_network(kind, card.part(name), device, dtype)
    config = config_of(card.part(name))
    if name == "unet":
        config = with_channels(card.folder, config)
    weights = known_to(lambda: kind.from_config(config), part_weights(card.folder, name, config))
    return filled(lambda: kind.from_config(config), weights, card.folder, device, dtype)


def _zeroes_empty(card: ModelCard) -> bool:
    """Whether SDXL hears an empty negative prompt as zeros, as the pipeline says, or by itself."""
    index = card.part("model_index.json")
    return not index.is_file() or read_json(index.parent, index.name).get(ZEROES, True)


def _encoders(card: ModelCard, large: bool, device: torch.device, dtype: torch.dtype) -> list[Any]:
    if not large:
        return [_encoder(card, "", ClipText, device, dtype)]
    if not card.part("text_encoder").is_dir():
        raise LoadError(
            f"{card.title} has no first text encoder: it is an SDXL refiner, which finishes what SDXL base "
            "began. This studio paints with the base alone."
        )
    return [_encoder(card, which, PenultimateClip, device, dtype) for which in ("", "_2")]


def _encoder(
    card: ModelCard, which: str, kind: type[ClipText], device: torch.device, dtype: torch.dtype
) -> Any:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    folder = card.part(f"text_encoder{which}")
    told = read_json(folder, "config.json")
    config = CLIPTextConfig.from_dict(told)
    network = CLIPTextModelWithProjection if which else CLIPTextModel
    if card.folder.is_file():
        source, weights = card.folder, part_weights(card.folder, f"text_encoder{which}", told)
        weights = known_to(lambda: network(config), clip_names(weights, network, config))
    else:
        source, weights = folder, clip_names(read_weights(folder), network, config)
    clip = filled(lambda: network(config), weights, source, device, dtype)
    place = card.part(f"tokenizer{which}")
    if has_own(place) or (place / "tokenizer.json").is_file():
        words: Any = CLIPTokenizer.from_pretrained(place, local_files_only=True)
    else:
        words = CLIPTokenizer(*vocabulary(place), model_max_length=CLIP_TOKENS, **marks(place))
    return kind(
        clip, words.backend_tokenizer, words.bos_token_id, words.eos_token_id, words.pad_token_id,
        config.max_position_embeddings,
    )  # fmt: skip


def clip_names(weights: dict[str, torch.Tensor], kind: Any, config: Any) -> dict[str, torch.Tensor]:
    """CLIP weights under the names of this transformers: 5.6 dropped a prefix that older files carry."""
    with torch.device("meta"):
        expected = kind(config).state_dict()
    bare = {name.removeprefix("text_model."): value for name, value in weights.items()}
    bare.pop("embeddings.position_ids", None)
    known = {name.removeprefix("text_model."): name for name in expected}
    return {known.get(name, name): value for name, value in bare.items()}
