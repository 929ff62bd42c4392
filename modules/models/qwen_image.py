"""Qwen-Image and its editors answer here: a vision-language model for words, a video's autoencoder, guidance
that keeps the length of every token's answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image

from modules.images import open_picture
from modules.models.conditioning import Scene
from modules.models.pipelines import PipelineModel, Told, expanded, packed, unpacked
from modules.tasks import InstructEdit, Task


def length_kept(value: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Guided velocities (B, C, H, W) with the length, token by token of 2 x 2 latents, of unguided ones."""
    lengths = [F.avg_pool2d(each.square().sum(1, keepdim=True), 2).sqrt() for each in (own, value)]
    return value * F.interpolate(lengths[0] / lengths[1], scale_factor=2)


class QwenImage(PipelineModel):
    """A QwenImagePipeline's networks (Wu et al. 2025)."""

    LONGEST = 1024
    rescale = staticmethod(length_kept)

    @staticmethod
    def pixels(pipe: Any) -> int:
        """Pixels of a picture to one latent, each way."""
        return pipe.vae_scale_factor

    def channels(self) -> int:
        """Numbers in one latent, before it is packed with three others."""
        return self.pipe.transformer.config.in_channels // 4

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """Token states, and which of them count."""
        del task, scene
        states, mask = self.pipe.encode_prompt(prompt, device=self.device)
        return {"encoder_hidden_states": states, "encoder_hidden_states_mask": mask}

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The velocity at flow sample `x`."""
        height, width = x.shape[-2:]
        tokens, shapes = packed(x), [(1, height // 2, width // 2)]
        heard = {name: expanded(value, len(x)) for name, value in told.items()}
        if (beside := heard.pop("beside", None)) is not None:
            tokens = torch.cat([tokens, packed(beside.to(x))], dim=1)
            shapes.append((1, beside.shape[-2] // 2, beside.shape[-1] // 2))
        answer = self.pipe.transformer(
            hidden_states=tokens,
            timestep=self.timesteps(x, t) / 1000,
            img_shapes=[shapes] * len(x),
            return_dict=False,
            **heard,
        )[0]
        return unpacked(answer[:, : height * width // 4], height, width)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures, as videos of one frame, to latents."""
        vae = self.pipe.vae
        frames = pictures.to(self.device, vae.dtype)[:, :, None]
        return self.scaled(vae.encode(frames).latent_dist.mode()[:, :, 0]).float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents, as a video's of one frame, to pictures."""
        vae = self.pipe.vae
        frames = self.unscaled(latents.to(self.device, vae.dtype))[:, :, None]
        return vae.decode(frames, return_dict=False)[0][:, :, 0].float().clamp(-1, 1)

    def scaled(self, raw: torch.Tensor) -> torch.Tensor:
        """Each channel with mean 0 and variance 1."""
        mean, std = self._statistics(raw)
        return (raw - mean) / std

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The way back from `scaled`."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.pipe.vae.config
        mean, std = (torch.tensor(each).to(like) for each in (config.latents_mean, config.latents_std))
        return mean[:, None, None], std[:, None, None]


class QwenImageEdit(QwenImage):
    """A QwenImageEditPipeline's networks: the picture is read beside the sample and seen beside the words."""

    channels_beside = 16
    record: ClassVar[Mapping[str, Any]] = {"image_guidance_scale": 1.0}  # it has no guidance by the picture
    SEEN: ClassVar[int] = 0
    """Pixels at which the vision-language model sees the picture; 0: as many as are painted."""

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """Token states of the instruction and of the picture, which of them count, and the picture itself."""
        assert isinstance(task, InstructEdit)
        seen = seen_at(open_picture(task.image), self.SEEN or scene.width * scene.height)
        states, mask = self.pipe.encode_prompt(prompt, seen, device=self.device)
        return {
            "encoder_hidden_states": states,
            "encoder_hidden_states_mask": mask,
            "beside": scene.beside,
        }


class QwenImageEditPlus(QwenImageEdit):
    """A QwenImageEditPlusPipeline's networks, with one picture."""

    SEEN: ClassVar[int] = 384 * 384


def seen_at(picture: Image.Image, pixels: int) -> Image.Image:
    """A picture of about so many pixels, in its own shape, with sides that are multiples of 32."""
    width = math.sqrt(pixels * picture.width / picture.height)
    height = width * picture.height / picture.width
    return picture.resize(
        (max(1, round(width / 32)) * 32, max(1, round(height / 32)) * 32), Image.Resampling.LANCZOS
    )
