"""FLUX.1 and its Kontext answer here: T5 for words, tokens of 2 x 2 latents, guidance told to the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from modules.models.conditioning import Scene
from modules.models.pipelines import PipelineModel, Told, expanded, packed, unpacked
from modules.tasks import Task

SHORT, LONG = 256, 512
"""Tokens of a prompt that schnell and dev were trained with."""


class Flux(PipelineModel):
    """A FluxPipeline's networks; schnell's take no guidance, dev's are told of it."""

    def guidance(self) -> str:
        """Embedded where the transformer has an input for it."""
        return "embedded" if self.pipe.transformer.config.guidance_embeds else "none"

    def channels(self) -> int:
        """Numbers in one latent, before it is packed with three others."""
        return self.pipe.transformer.config.in_channels // 4

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """T5's token states, what CLIP says of the whole, and the guidance."""
        states, pooled, places = self.pipe.encode_prompt(
            prompt, None, device=self.device, max_sequence_length=self.longest()
        )
        told = {"encoder_hidden_states": states, "pooled_projections": pooled, "txt_ids": places}
        if self.guidance() == "embedded":
            told["guidance"] = torch.tensor([task.guidance_scale], dtype=torch.float32, device=self.device)
        if scene.beside is not None:
            told["beside"] = scene.beside
        return told

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`."""
        height, width = x.shape[-2:]
        tokens, places = packed(x), self.places(x)
        count = tokens.shape[1]
        heard = {name: expanded(value, len(x)) for name, value in told.items() if name != "txt_ids"}
        if (beside := heard.pop("beside", None)) is not None:
            tokens = torch.cat([tokens, packed(beside.to(x))], dim=1)
            places = torch.cat([places, self.places(beside.to(x), layer=1)])
        answer = self.pipe.transformer(
            hidden_states=tokens,
            timestep=self.timesteps(x, t) / 1000,
            txt_ids=told["txt_ids"],
            img_ids=places,
            return_dict=False,
            **heard,
        )[0]
        return unpacked(answer[:, :count], height, width)

    def places(self, latents: torch.Tensor, layer: int = 0) -> torch.Tensor:
        """Where the tokens of latents stand, (tokens, 3): layer, row and column."""
        height, width = latents.shape[-2:]
        found = self.pipe._prepare_latent_image_ids(
            len(latents), height // 2, width // 2, latents.device, latents.dtype
        )
        found[:, 0] = layer
        return found

    def longest(self) -> int:
        """Tokens of a prompt, the end's mark included."""
        return LONG if self.guidance() == "embedded" else SHORT

    def tokenizer(self) -> Any:
        """T5's: CLIP hears 75 tokens besides, for the tone of the whole."""
        return self.pipe.tokenizer_2


class Kontext(Flux):
    """A FluxKontextPipeline's networks (Labs et al. 2025): a picture's tokens are read after the sample's."""

    channels_beside = 16
    record: ClassVar[Mapping[str, Any]] = {"image_guidance_scale": 1.0}  # it has no guidance by the picture
