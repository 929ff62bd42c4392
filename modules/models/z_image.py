"""Z-Image answers here: a language model for words, time that runs from noise to picture, true guidance.

Its pipeline's guidance_scale counts from 0 for none; here 1 means none, as everywhere.
"""

from __future__ import annotations

import torch

from modules.models.conditioning import Scene
from modules.models.pipelines import PipelineModel, Told
from modules.tasks import Task


class ZImage(PipelineModel):
    """A ZImagePipeline's networks (Z-Image team 2025)."""

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """The states of the tokens that there are, (length, width)."""
        del task, scene
        states, _ = self.pipe.encode_prompt([prompt], device=self.device, do_classifier_free_guidance=False)
        return states[0]

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`; the network states it from noise to picture."""
        pictures = list(x[:, :, None].unbind())
        clean = (1000 - self.timesteps(x, t)) / 1000
        answer = self.pipe.transformer(pictures, clean, [told] * len(x), return_dict=False)[0]
        return -torch.stack(answer)[:, :, 0]
