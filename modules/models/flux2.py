"""FLUX.2 klein answers here: a language model's middle layers for words, latents of 16 x 16 pixels."""

from __future__ import annotations

from typing import Any

import torch

from modules.models.conditioning import Scene
from modules.models.pipelines import PipelineModel, Told, expanded
from modules.tasks import Task


class Flux2Klein(PipelineModel):
    """A Flux2KleinPipeline's networks; the distilled ones take no guidance, the base ones true guidance."""

    @staticmethod
    def pixels(pipe: Any) -> int:
        """Pixels of a picture to one latent, each way: the autoencoder's own, in patches of 2 x 2."""
        return 2 * pipe.vae_scale_factor

    def guidance(self) -> str:
        """None where the pipeline says that it is distilled."""
        return "none" if self.pipe.config.is_distilled else "true"

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """Token states, and their places."""
        del task, scene
        states, places = self.pipe.encode_prompt(prompt, device=self.device)
        return {"encoder_hidden_states": states, "txt_ids": places}

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`, every latent a token."""
        answer = self.pipe.transformer(
            hidden_states=x.flatten(2).transpose(1, 2),
            timestep=self.timesteps(x, t) / 1000,
            guidance=None,
            img_ids=self.pipe._prepare_latent_ids(x).to(x.device),
            return_dict=False,
            **{name: expanded(value, len(x)) for name, value in told.items()},
        )[0]
        return answer.transpose(1, 2).reshape(x.shape)

    def scaled(self, raw: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents in patches, each channel with mean 0 and variance 1."""
        mean, std = self._statistics(raw)
        return (self.pipe._patchify_latents(raw) - mean) / std

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The way back from `scaled`."""
        mean, std = self._statistics(latents)
        return self.pipe._unpatchify_latents(latents * std + mean)

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        norm = self.pipe.vae.bn
        std = (norm.running_var + self.pipe.vae.config.batch_norm_eps).sqrt()
        return norm.running_mean[:, None, None].to(like), std[:, None, None].to(like)
