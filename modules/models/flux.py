"""FLUX.1 answers here: T5 for words, latents packed into tokens of 2 x 2, guidance told to the network."""

from __future__ import annotations

from typing import Any

import torch

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

    def words(self, prompt: str, task: Task) -> Told:
        """T5's token states, what CLIP says of the whole, and the guidance."""
        states, pooled, places = self.pipe.encode_prompt(
            prompt, None, device=self.device, max_sequence_length=self.longest()
        )
        told = {"encoder_hidden_states": states, "pooled_projections": pooled, "txt_ids": places}
        if self.guidance() == "embedded":
            told["guidance"] = torch.tensor([task.guidance_scale], dtype=torch.float32, device=self.device)
        return told

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`."""
        height, width = x.shape[-2:]
        tokens = packed(x)
        places = self.pipe._prepare_latent_image_ids(len(x), height // 2, width // 2, x.device, x.dtype)
        heard = {name: expanded(value, len(x)) for name, value in told.items() if name != "txt_ids"}
        answer = self.pipe.transformer(
            hidden_states=tokens,
            timestep=self.timesteps(x, t) / 1000,
            txt_ids=told["txt_ids"],
            img_ids=places,
            return_dict=False,
            **heard,
        )[0]
        return unpacked(answer[:, : tokens.shape[1]], height, width)

    def longest(self) -> int:
        """Tokens of a prompt, the end's mark included."""
        return LONG if self.guidance() == "embedded" else SHORT

    def tokenizer(self) -> Any:
        """T5's: CLIP hears 75 tokens besides, for the tone of the whole."""
        return self.pipe.tokenizer_2
