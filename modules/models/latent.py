"""A latent diffusion model in memory: pictures to latents and back, words to conditions, one network call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from modules.conditions.text import Encoded, TextEncoder
from modules.diffusion.noise import NoiseSchedule
from modules.models.catalog import ModelCard
from modules.tasks import ClassConditional, Task, TaskError, not_one_of

PREVIEW_PIXELS = 256


@dataclass(frozen=True)
class Condition:
    """What one network call is told beside the noise level: token states, (1, length, width)."""

    states: torch.Tensor


@dataclass(frozen=True)
class Conditions:
    """A task as guidance takes it: a base, conditions with their weights, and the words that were cut."""

    base: Condition
    weighted: tuple[tuple[Condition, float], ...]
    words_cut: int = 0


@dataclass(frozen=True, kw_only=True)
class ClassTokens:
    """The learned token of each class, (classes + 1, width); the last row stands for no class."""

    names: tuple[str, ...]
    weight: torch.Tensor

    def __call__(self, name: str | None) -> torch.Tensor:
        """The token of a class, or of none, as (1, 1, width); TaskError if there is no such class."""
        if name is not None and name not in self.names:
            raise TaskError("class_name", not_one_of("class_name", name, self.names))
        row = len(self.names) if name is None else self.names.index(name)
        return self.weight[row][None, None]


@dataclass(frozen=True, kw_only=True)
class LatentModel:
    """A U-Net, an autoencoder, a text encoder and perhaps classes, behind the verbs that the studio uses.

    Latents are (B, channels, height / factor, width / factor) in float32, of about unit variance; pictures
    are (B, 3, height, width) in float32 from -1 to 1. `hash` names the weights, `dtype` is the network's.
    """

    card: ModelCard
    unet: Any
    autoencoder: Any
    text: TextEncoder
    classes: ClassTokens | None
    noise_schedule: NoiseSchedule
    factor: int
    hash: str
    device: torch.device
    dtype: torch.dtype

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of one picture's latents."""
        return (self.unet.config.in_channels, height // self.factor, width // self.factor)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures to latents; a variational encoder gives its mean."""
        answer = self.autoencoder.encode(pictures.to(self.device, self.autoencoder.dtype))
        for name in ("latent", "latents"):
            if hasattr(answer, name):
                return (getattr(answer, name) * self.autoencoder.config.scaling_factor).float()
        return (answer.latent_dist.mode() * self.autoencoder.config.scaling_factor).float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pictures."""
        unscaled = (latents / self.autoencoder.config.scaling_factor).to(self.device, self.autoencoder.dtype)
        return self.autoencoder.decode(unscaled).sample.float().clamp(-1, 1)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to quick pictures of about 256 pixels at most: large latents are averaged down first."""
        longest = max(latents.shape[-2:]) * self.factor
        if (shrink := longest // PREVIEW_PIXELS) > 1:
            latents = F.avg_pool2d(latents, shrink)
        return self.decode(latents)

    @torch.no_grad()
    def conditions(self, task: Task) -> Conditions:
        """Base and weighted conditions of a task; every text has the same number of tokens.

        The base is the negative prompt with no class. The prompt is one condition, dropped when there are no
        words at all; the class, with no words, is another. TaskError for a class that the model lacks.
        """
        class_name = task.class_name if isinstance(task, ClassConditional) else None
        prompt, negative, empty = self.text([task.prompt.strip(), task.negative_prompt.strip(), ""])
        weighted = []
        if task.prompt.strip() or (task.negative_prompt.strip() and class_name is None):
            weighted.append((self._condition(prompt), task.guidance_scale))
        if isinstance(task, ClassConditional):
            weighted.append((self._condition(empty, class_name), task.class_scale))
        return Conditions(self._condition(negative), tuple(weighted), prompt.words_cut + negative.words_cut)

    @torch.no_grad()
    def predict(self, x: torch.Tensor, t: float, conditions: Sequence[Condition]) -> torch.Tensor:
        """The network's answer at timestep `t` to latents (k * B, ...), copy i under condition i of k."""
        each = x.shape[0] // len(conditions)
        states = torch.cat([condition.states.expand(each, -1, -1) for condition in conditions])
        timestep = torch.tensor(t, device=self.device)
        answer = self.unet(x.to(self.device, self.dtype), timestep, states.to(self.dtype), return_dict=False)[
            0
        ]
        return answer.to(x.device, x.dtype)

    def _condition(self, text: Encoded, class_name: str | None = None) -> Condition:
        if self.classes is None:
            return Condition(text.states)
        return Condition(torch.cat([text.states, self.classes(class_name).to(text.states)], dim=1))
