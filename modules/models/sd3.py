"""Stable Diffusion 3 and 3.5 answer here: two CLIPs and a T5 for words, true guidance."""

from __future__ import annotations

from typing import Any

import torch

from modules.models.conditioning import Scene
from modules.models.pipelines import PipelineModel, Told, expanded
from modules.tasks import Task


class SD3(PipelineModel):
    """A StableDiffusion3Pipeline's networks (Esser et al. 2024)."""

    LONGEST = 255  # of T5's 256 the last marks the end; the CLIPs hear the first 75 besides

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """Token states of all three encoders, and what the CLIPs say of the whole."""
        del task, scene
        states, _, pooled, _ = self.pipe.encode_prompt(
            prompt, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`."""
        return self.pipe.transformer(
            hidden_states=x,
            timestep=self.timesteps(x, t),
            return_dict=False,
            **{name: expanded(value, len(x)) for name, value in told.items()},
        )[0]

    def tokenizer(self) -> Any:
        """T5's, or where it was left out for its size a CLIP's."""
        return self.pipe.tokenizer_3 or self.pipe.tokenizer
