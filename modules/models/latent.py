"""A latent diffusion model in memory: pictures to latents and back, words to conditions, one network call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from modules.conditions.control import maps_of
from modules.conditions.text import TextEncoder
from modules.diffusion.noise import NoiseSchedule
from modules.images import to_tensor
from modules.models.catalog import ModelCard
from modules.models.conditioning import (
    ClassTokens,
    Condition,
    Conditions,
    Scene,
    Telling,
    by_words,
    class_of,
    guidance_embedding,
    over_a_picture,
    stacked,
    with_class,
    without_words,
)
from modules.models.maps import Control, ControlNetwork, added, holding, led, no_control
from modules.tasks import ClassConditional, Controlled, InstructEdit, Task

PREVIEW_PIXELS = 256


@dataclass(frozen=True, kw_only=True)
class LatentModel:
    """A U-Net, an autoencoder, a text encoder and perhaps classes, behind the verbs that the studio uses.

    Latents are (B, channels, height / factor, width / factor) in float32, of about unit variance; pictures
    are (B, 3, height, width) in float32 from -1 to 1. `hash` names the weights, `dtype` is the network's;
    `control` gives the ControlNet of a type, which is loaded when it is first asked for. `tell` makes this
    family's conditions of words; `zeroes_empty`: an empty negative prompt is zeros, not an encoded nothing;
    `hears_guidance`: the network was distilled with guidance and is told its weight instead of two prompts.
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
    control: Callable[[str], ControlNetwork] = no_control
    tell: Telling = by_words
    zeroes_empty: bool = False
    hears_guidance: bool = False

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of one picture's latents."""
        return (self.unet.config.out_channels, height // self.factor, width // self.factor)

    @property
    def channels_beside(self) -> int:
        """How many channels the network reads beside the latents: 5 of a mask, 4 of a picture, or 0."""
        return self.unet.config.in_channels - self.unet.config.out_channels

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures to latents; a variational encoder gives its mean."""
        return self.encode_raw(pictures) * self.autoencoder.config.scaling_factor

    @torch.no_grad()
    def encode_raw(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures to what the encoder itself answers, not yet of unit variance."""
        answer = self.autoencoder.encode(pictures.to(self.device, self.autoencoder.dtype))
        for name in ("latent", "latents"):
            if hasattr(answer, name):
                return getattr(answer, name).float()
        return answer.latent_dist.mode().float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pictures."""
        unscaled = (latents / self.autoencoder.config.scaling_factor).to(self.device, self.autoencoder.dtype)
        return self.autoencoder.decode(unscaled).sample.float().clamp(-1, 1)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to quick pictures of about 256 pixels at most: large latents are averaged down first."""
        return self.decode(averaged_down(latents, self.factor))

    @torch.no_grad()
    def conditions(
        self, task: Task, timesteps: Sequence[float] = (), scene: Scene | None = None
    ) -> Conditions:
        """Base and weighted conditions of a task; every text has the same number of tokens.

        The base is the negative prompt with no class. The prompt is one condition, dropped when there are no
        words at all; the class, with no words, is another, where the model knows classes. TaskError for a
        class that the model lacks, and for a control picture that is no map. `timesteps` are those to be
        visited, in order, of which a map holds during a share; `scene` is where the picture is painted, by
        itself the task's own width and height.
        """
        scene, name = scene or Scene(task.width, task.height), class_of(task)
        classed = task if isinstance(task, ClassConditional) and self.classes is not None else None
        words = [task.prompt.strip(), task.negative_prompt.strip()]
        texts = list(dict.fromkeys([*words, ""] if classed else words))  # each read once, all in one batch
        encoded = dict(zip(texts, self.text(texts), strict=True))
        prompt, negative = (with_class(self.tell(encoded[text], scene), self.classes, None) for text in words)
        if self.zeroes_empty and not words[1]:
            negative = without_words(negative)
        weighted = []
        if words[0] or (words[1] and name is None):
            weighted.append((prompt, task.guidance_scale))
        if classed:
            alone = with_class(self.tell(encoded[""], scene), self.classes, name)
            weighted.append((alone, classed.class_scale))
        base = negative
        if isinstance(task, InstructEdit):
            base, weighted = over_a_picture(negative, weighted, task.image_guidance_scale)
        if self.hears_guidance:
            told = guidance_embedding(task.guidance_scale, self.unet.config.time_cond_proj_dim)
            weighted = [(replace(prompt, guidance=told), 1.0)]
        controls, record = self._controls(task, timesteps) if isinstance(task, Controlled) else ((), {})
        words_cut = sum(text.words_cut for text in encoded.values())
        return Conditions(base, tuple(weighted), words_cut, controls, record)

    @torch.no_grad()
    def predict(
        self,
        x: torch.Tensor,
        t: float,
        conditions: Sequence[Condition],
        controls: Sequence[Control] = (),
    ) -> torch.Tensor:
        """The network's answer at timestep `t` to latents (k * B, ...), copy i under condition i of k.

        Every copy keeps to all the maps of `controls` that hold at `t`. They read the sample alone, without
        the latents that lie beside it.
        """
        place = {"device": self.device, "dtype": self.dtype}
        each, sample = x.shape[0] // len(conditions), x.to(**place)
        names = conditions[0].added
        told: dict[str, Any] = {
            "encoder_hidden_states": stacked([one.states.to(**place) for one in conditions], each)
        }
        if names:
            told["added_cond_kwargs"] = {
                name: stacked([one.added[name].to(**place) for one in conditions], each) for name in names
            }
        down, middle = added(controls, t, sample, told)
        beside = stacked([one.beside for one in conditions], each)
        guidance = stacked([one.guidance for one in conditions], each)
        answer = led(controls, t, self.unet)(
            sample if beside is None else torch.cat([sample, beside.to(**place)], dim=1),
            torch.tensor(t, device=self.device),
            timestep_cond=None if guidance is None else guidance.to(**place),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
            **told,
        )[0]
        return answer.to(x.device, x.dtype)

    def _controls(
        self, task: Controlled, timesteps: Sequence[float]
    ) -> tuple[tuple[Control, ...], dict[str, Any]]:
        """The task's maps as the network takes them, and what the record says; no network at weight 0."""
        controls, record = list[Control](), dict[str, Any]()
        held = holding(timesteps, task.control_start, task.control_end)
        for which, made in maps_of(task).items():
            told = f"{made.told} Pictures are not kept in the recipe: keep the map yourself."
            record[f"control_map{which}"] = told
            scale = getattr(task, f"control_scale{which}")
            if scale == 0 or not held:
                continue
            found = self.control(getattr(task, f"control_type{which}"))
            pixels = ((to_tensor(made.picture) + 1) / 2).to(self.device, self.dtype)
            controls.append(Control(found.network, pixels, scale, max(held), min(held), found.unet))
            record[f"control_hash{which}"] = found.hash
        return tuple(controls), record


def averaged_down(latents: torch.Tensor, factor: int) -> torch.Tensor:
    """Latents of a picture of about PREVIEW_PIXELS at most, for an autoencoder that shrinks by `factor`."""
    longest = max(latents.shape[-2:]) * factor
    shrink = longest // PREVIEW_PIXELS
    return F.avg_pool2d(latents, shrink) if shrink > 1 else latents
