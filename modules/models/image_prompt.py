"""A picture as a prompt (IP-Adapter, Ye et al. 2023): it becomes tokens, which cross-attention sees too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from modules.images import to_tensor
from modules.models.conditioning import Condition
from modules.models.files import LoadError, fingerprint, read_json, read_weights
from modules.models.lora import read_file
from modules.models.networks import filled
from modules.models.wardrobe import Sight, short_hash

MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, by colour."""


PROJECTIONS = ("proj.weight", "proj.3.weight", "latents")
"""What of its projection tells a plain IP-Adapter, a full-face and a "plus" one."""


@dataclass(frozen=True)
class Sighted(Condition):
    """A Condition with the tokens of a picture, (1, count, width)."""

    image: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class IpAdapter:
    """An IP-Adapter in memory: an image encoder, a projection to tokens, and a key and value a layer.

    `pooled`: the projection reads the encoder's one vector, not its states before the last layer.
    """

    encoder: Any
    projection: Any
    pooled: bool
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    hash: str

    @torch.no_grad()
    def tokens(self, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of a picture, and those that stand for none, (1, count, width) each."""
        pixels = prepared(picture, self.encoder.config.image_size).to(self.encoder.device, self.encoder.dtype)
        if self.pooled:
            told = self.encoder(pixels).image_embeds
            return self.projection(told), self.projection(torch.zeros_like(told))
        states = [
            self.encoder(each, output_hidden_states=True).hidden_states[-2]
            for each in (pixels, torch.zeros_like(pixels))
        ]
        return self.projection(states[0]), self.projection(states[1])

    def put_on(self, unet: Any, tokens: Callable[[], torch.Tensor], stack: ExitStack) -> None:
        """Let the U-Net look at `tokens()`, (copies, count, width), until `stack` closes."""
        for attention, (to_key, to_value) in zip(crossings(unet), self.layers, strict=True):
            look = _Look(attention, to_key, to_value, tokens)
            stack.callback(attention.to_q.register_forward_hook(look.asked).remove)
            stack.callback(attention.to_out[0].register_forward_pre_hook(look.seen).remove)


class _Look:
    """Hooks in one cross-attention: its query meets the picture's keys too, and the answers add up."""

    def __init__(
        self, attention: Any, to_key: torch.Tensor, to_value: torch.Tensor, tokens: Callable[[], torch.Tensor]
    ):
        self.heads, self.to_key, self.to_value, self.tokens = attention.heads, to_key, to_value, tokens
        self.query = torch.empty(0)

    def asked(self, _: Any, given: tuple[torch.Tensor, ...], said: torch.Tensor) -> None:
        self.query = said

    def seen(self, _: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        tokens = self.tokens().to(self.query)
        key, value = (F.linear(tokens, weight.to(tokens)) for weight in (self.to_key, self.to_value))
        query, key, value = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, key, value)
        )
        self.query = torch.empty(0)
        answer = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return (given[0] + answer.to(given[0]), *given[1:])


def load_ip_adapter(files: Sight, unet: Any, title: str) -> IpAdapter:
    """The IP-Adapter of these files for a U-Net; LoadError, in words, if they are damaged or for another."""
    tensors, _ = read_file(files.weights)
    name, projecting = files.weights.name, _under("image_proj.", tensors)
    numbers = sorted(int(key.split(".")[0]) for key in _under("ip_adapter.", tensors) if "to_k_ip" in key)
    try:
        pairs = [[tensors[f"ip_adapter.{i}.to_{which}_ip.weight"] for which in "kv"] for i in numbers]
    except KeyError as error:
        raise LoadError(f"{name} is damaged: it has no {error}. Download it again.") from error
    if not any(known in projecting for known in PROJECTIONS):
        raise LoadError(f"{name} is no IP-Adapter for pictures as they are; one for faces is not read here.")
    theirs = [tuple(pair[0].shape) for pair in pairs]
    ours = [(each.to_k.out_features, each.to_k.in_features) for each in crossings(unet)]
    if theirs != ours:
        raise LoadError(
            f"The IP-Adapter {name} does not fit {title}: it is for {len(theirs)} layers that read "
            f"{files.width} numbers a token; {title} has {len(ours)}, of {unet.config.cross_attention_dim}."
        )
    place: dict[str, Any] = {"device": unet.device, "dtype": unet.dtype}
    return IpAdapter(
        encoder=_encoder(files, **place),
        projection=_projection(unet, projecting, name).to(**place).eval().requires_grad_(False),
        pooled="proj.weight" in projecting,
        layers=tuple((pair[0].to(**place), pair[1].to(**place)) for pair in pairs),
        hash=f"{short_hash(files.weights)[:10]}+{fingerprint(files.encoder)}",
    )


def crossings(unet: Any) -> list[Any]:
    """The U-Net's layers of cross-attention, in the order in which IP-Adapters number them."""
    names = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    return [unet.get_submodule(name.removesuffix(".processor")) for name in names]


def prepared(picture: Image.Image, side: int) -> torch.Tensor:
    """The middle of a picture as CLIP takes it, (1, 3, side, side), its colours spread as in training."""
    scale = side / min(picture.size)
    size = [max(side, int(length * scale)) for length in picture.size]
    fitted = picture.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = (to_tensor(fitted.crop((left, top, left + side, top + side))) + 1) / 2
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]


def _projection(unet: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """What makes tokens of what the encoder says; diffusers knows its shapes and names, and tells nobody."""
    try:
        return unet._convert_ip_adapter_image_proj_to_diffusers(tensors, low_cpu_mem_usage=False)
    except (KeyError, RuntimeError, IndexError) as error:
        raise LoadError(f"{name} is no IP-Adapter that this studio knows ({error}).") from error


def _encoder(files: Sight, device: torch.device, dtype: torch.dtype) -> Any:
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    config = CLIPVisionConfig.from_dict(read_json(files.encoder, "config.json"))
    weights = {
        name: value
        for name, value in read_weights(files.encoder).items()
        if not name.endswith("position_ids")
    }
    network = filled(lambda: CLIPVisionModelWithProjection(config), weights, files.encoder, device, dtype)
    places = network.vision_model.embeddings
    places.position_ids = torch.arange(places.num_positions, device=device)[None]  # which no file holds
    return network


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
