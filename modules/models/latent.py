"""A latent diffusion model in memory: pictures to latents and back, words to conditions, one network call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from modules.conditions.control import map_of
from modules.conditions.text import Encoded, TextEncoder
from modules.diffusion.noise import NoiseSchedule
from modules.images import to_tensor
from modules.models.catalog import ModelCard
from modules.tasks import ClassConditional, Controlled, Task, TaskError, not_one_of

PREVIEW_PIXELS = 256


@dataclass(frozen=True)
class Condition:
    """What one network call is told beside the noise level: token states, (1, length, width)."""

    states: torch.Tensor


@dataclass(frozen=True)
class ControlNetwork:
    """A ControlNet in memory, and the hash that names its weights."""

    network: Any
    hash: str


@dataclass(frozen=True, eq=False)
class Control:
    """One map over the picture: who reads it, its pixels (1, 3, H, W) from 0 to 1, its weight, its time.

    It holds from timestep `first` down to `last`, both included.
    """

    network: Any
    picture: torch.Tensor
    scale: float = 1.0
    first: float = float("inf")
    last: float = float("-inf")


@dataclass(frozen=True)
class Conditions:
    """A task as guidance takes it: a base, conditions with their weights, and the words that were cut.

    `controls` hold for base and conditions alike: guidance drops the words and keeps the maps. `record` goes
    into the picture's info.
    """

    base: Condition
    weighted: tuple[tuple[Condition, float], ...]
    words_cut: int = 0
    controls: tuple[Control, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


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


def no_control(kind: str) -> ControlNetwork:
    """What a model without ControlNets answers; TaskError."""
    raise TaskError("control_type", f"This model has no {kind} ControlNet.")


@dataclass(frozen=True, kw_only=True)
class LatentModel:
    """A U-Net, an autoencoder, a text encoder and perhaps classes, behind the verbs that the studio uses.

    Latents are (B, channels, height / factor, width / factor) in float32, of about unit variance; pictures
    are (B, 3, height, width) in float32 from -1 to 1. `hash` names the weights, `dtype` is the network's;
    `control` gives the ControlNet of a type, which is loaded when it is first asked for.
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
    def conditions(self, task: Task, timesteps: Sequence[float] = ()) -> Conditions:
        """Base and weighted conditions of a task; every text has the same number of tokens.

        The base is the negative prompt with no class. The prompt is one condition, dropped when there are no
        words at all; the class, with no words, is another. TaskError for a class that the model lacks, and
        for a control picture that is no map. `timesteps` are those to be visited, in order, of which a map
        holds during a share.
        """
        class_name = task.class_name if isinstance(task, ClassConditional) else None
        prompt, negative, empty = self.text([task.prompt.strip(), task.negative_prompt.strip(), ""])
        weighted = []
        if task.prompt.strip() or (task.negative_prompt.strip() and class_name is None):
            weighted.append((self._condition(prompt), task.guidance_scale))
        if isinstance(task, ClassConditional):
            weighted.append((self._condition(empty, class_name), task.class_scale))
        controls, record = self._controls(task, timesteps) if isinstance(task, Controlled) else ((), {})
        words_cut = prompt.words_cut + negative.words_cut
        return Conditions(self._condition(negative), tuple(weighted), words_cut, controls, record)

    @torch.no_grad()
    def predict(
        self,
        x: torch.Tensor,
        t: float,
        conditions: Sequence[Condition],
        controls: Sequence[Control] = (),
    ) -> torch.Tensor:
        """The network's answer at timestep `t` to latents (k * B, ...), copy i under condition i of k.

        Every copy keeps to all the maps of `controls` that hold at `t`.
        """
        each = x.shape[0] // len(conditions)
        states = torch.cat([condition.states.expand(each, -1, -1) for condition in conditions])
        timestep = torch.tensor(t, device=self.device)
        told = (x.to(self.device, self.dtype), timestep, states.to(self.dtype))
        down, middle = _added(told, [control for control in controls if control.last <= t <= control.first])
        answer = self.unet(
            *told,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return answer.to(x.device, x.dtype)

    def _controls(
        self, task: Controlled, timesteps: Sequence[float]
    ) -> tuple[tuple[Control, ...], dict[str, Any]]:
        """The task's map as the network takes it, and what the record says; no network at weight 0."""
        made = map_of(task)
        record = {"control_map": f"{made.told} Pictures are not kept in the recipe: keep the map yourself."}
        held = holding(timesteps, task.control_start, task.control_end)
        if task.control_scale == 0 or not held:
            return (), record
        found = self.control(task.control_type)
        pixels = ((to_tensor(made.picture) + 1) / 2).to(self.device, self.dtype)
        control = Control(found.network, pixels, task.control_scale, max(held), min(held))
        return (control,), record | {"control_hash": found.hash}

    def _condition(self, text: Encoded, class_name: str | None = None) -> Condition:
        if self.classes is None:
            return Condition(text.states)
        return Condition(torch.cat([text.states, self.classes(class_name).to(text.states)], dim=1))


def holding(timesteps: Sequence[float], start: float, end: float) -> list[float]:
    """Those timesteps at which a map holds from share `start` to share `end` of the steps.

    As in diffusers: step i of n is among them if it begins at or after `start` and is over by `end`.
    """
    count = len(timesteps)
    return [float(t) for i, t in enumerate(timesteps) if i / count >= start and (i + 1) / count <= end]


def _added(told: tuple[torch.Tensor, ...], controls: Sequence[Control]) -> tuple[Any, Any]:
    """What all maps together add to the U-Net's skips and to its middle; None and None without maps."""
    down, middle = None, None
    for control in controls:
        maps = control.picture.expand(len(told[0]), -1, -1, -1)
        skips, centre = control.network(*told, maps, conditioning_scale=control.scale, return_dict=False)
        down = skips if down is None else [one + other for one, other in zip(down, skips, strict=True)]
        middle = centre if middle is None else middle + centre
    return down, middle
