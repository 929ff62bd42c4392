"""A stock diffusers pipeline lends its networks here, and its transformer is asked by our own loop, call by
call: so previews, cancelling, image-to-image, inpainting and the schedule's panel are those of every model.

What a family does in its own way (how it reads a prompt, packs latents, takes guidance) is a subclass of
PipelineModel in a file beside this one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from modules.conditions import emphasis, tags
from modules.diffusion.flow import TIMESTEPS, FlowSchedule, Noise, unit
from modules.models.catalog import ModelCard
from modules.models.conditioning import Conditions, Scene
from modules.models.files import PICKLED, LoadError, read_json
from modules.models.folders import PIPELINES
from modules.models.latent import LatentModel, averaged_down
from modules.models.levels import noise_of
from modules.models.maps import ControlNetwork, no_control
from modules.models.networks import autoencoder_dtype
from modules.models.originals import PICKLES
from modules.tasks import Task, TaskError

Told = Any
"""What one network call is told beside the noise level, by name, each tensor for one picture."""


@dataclass(frozen=True, kw_only=True)
class PipelineModel:
    """A stock pipeline's networks, behind the verbs that the studio uses; shapes are as LatentModel's.

    `pipe`: the diffusers pipeline, whose own loop and scheduler are never used. `factor`: pixels of a
    picture to one latent, each way.
    """

    card: ModelCard
    pipe: Any
    noise_schedule: Noise
    factor: int
    hash: str
    device: torch.device
    dtype: torch.dtype
    control: Callable[[str], ControlNetwork] = no_control

    LONGEST: ClassVar[int] = 512
    """Tokens of a prompt that the text encoder takes."""

    channels_beside: ClassVar[int] = 0
    """No mask and no picture lies beside the latents as more channels."""

    record: ClassVar[Mapping[str, Any]] = {}
    """What the picture's info says beside the task, where a field of it means nothing to the family."""

    rescale: ClassVar[Any] = 0.0
    """What is done to a guided answer, as `guided` takes it."""

    # What a family says of itself.

    @staticmethod
    def pixels(pipe: Any) -> int:
        """Pixels of a picture to one latent, each way."""
        return 2 ** (len(pipe.vae.config.block_out_channels) - 1)

    def channels(self) -> int:
        """Numbers in one latent."""
        return self.pipe.transformer.config.in_channels

    def guidance(self) -> str:
        """How the family takes guidance: "true", "embedded" in the network's input, or "none" at all."""
        return "true"

    def words(self, prompt: str, task: Task, scene: Scene) -> Told:
        """What the transformer is told for a prompt, and for the picture in the scene if there is one."""
        raise NotImplementedError

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """The transformer's answer to its own kind of sample, both (B, C, H, W), at timestep `t`."""
        raise NotImplementedError

    def scaled(self, raw: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents as the transformer takes them."""
        config = self.pipe.vae.config
        return (raw - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The way back from `scaled`."""
        config = self.pipe.vae.config
        return latents / config.scaling_factor + (config.get("shift_factor") or 0.0)

    # What the studio asks of any model.

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of one picture's latents."""
        return (self.channels(), height // self.factor, width // self.factor)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures to latents, the mean of what the encoder gives."""
        vae = self.pipe.vae
        return self.scaled(vae.encode(pictures.to(self.device, vae.dtype)).latent_dist.mode()).float()

    def encode_raw(self, pictures: torch.Tensor) -> torch.Tensor:
        """As `encode`: these networks read a picture in the same scale as the sample."""
        return self.encode(pictures)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pictures."""
        vae = self.pipe.vae
        raw = self.unscaled(latents.to(self.device, vae.dtype))
        return vae.decode(raw, return_dict=False)[0].float().clamp(-1, 1)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to quick pictures of about 256 pixels at most: large latents are averaged down first."""
        return self.decode(averaged_down(latents, self.factor))

    @torch.no_grad()
    def conditions(
        self, task: Task, timesteps: Sequence[float] = (), scene: Scene | None = None
    ) -> Conditions:
        """Base and weighted conditions of a task; TaskError, in words, for guidance that cannot be had.

        These text encoders take no weights on words: brackets are read, and the words used plainly.
        """
        del timesteps
        scene = scene or Scene(task.width, task.height)
        task, loras = tags.taken_out(task)
        if loras:
            raise TaskError("prompt", f"{self.card.title} wears no LoRAs: remove <lora:{loras[0].name}>.")
        prompt, negative = (emphasis.plain(emphasis.parse(text.strip())) for text in prompts_of(task))
        told, cut = self.words(prompt, task, scene), self._cut(prompt) + self._cut(negative)
        if self.guidance() == "true":
            if prompt == negative or task.guidance_scale == 1:
                return Conditions(told, (), cut, record=self.record)
            base, weighted = self.words(negative, task, scene), ((told, task.guidance_scale),)
            return Conditions(base, weighted, cut, record=self.record, rescale=self.rescale)
        if negative:
            raise TaskError(
                "negative_prompt",
                f"negative_prompt must be empty: {self.card.title} has its guidance learned in.",
            )
        if self.guidance() == "none" and task.guidance_scale != 1:
            raise TaskError(
                "guidance_scale",
                f"guidance_scale is {task.guidance_scale:g}; {self.card.title} takes none, which is 1.",
            )
        return Conditions(told, (), cut, record=self.record)

    @torch.no_grad()
    def predict(
        self, x: torch.Tensor, t: float, conditions: Sequence[Told], controls: Sequence[Any] = ()
    ) -> torch.Tensor:
        """The network's answer at timestep `t` to latents (k * B, ...), copy i under condition i of k.

        The copies are asked one after another: prompts differ in length, and these networks are large.
        """
        del controls
        seen = x * unit(t / TIMESTEPS) if isinstance(self.noise_schedule, FlowSchedule) else x
        seen = seen.to(self.device, self.dtype)
        parts = seen.chunk(len(conditions))
        answers = [self.ask(part, t, told) for part, told in zip(parts, conditions, strict=True)]
        return torch.cat(answers).to(x.device, x.dtype)

    # What families share.

    def timesteps(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """The timestep of every picture, (B,)."""
        return torch.full((len(x),), t, dtype=torch.float32, device=x.device)

    def tokenizer(self) -> Any:
        """The tokenizer whose limit cuts a prompt; None where there is no text."""
        return self.pipe.tokenizer

    def _cut(self, prompt: str) -> int:
        """How many words at the end of a prompt are beyond what the text encoder takes."""
        if (tokenizer := self.tokenizer()) is None:
            return 0
        read = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, truncation=False)
        places = read["offset_mapping"]
        return len(prompt[places[self.LONGEST][0] :].split()) if len(places) > self.LONGEST else 0


def expanded(value: Any, count: int) -> Any:
    """A condition's tensor for one picture as one for `count` of them; anything else as it is."""
    return value.expand(count, *value.shape[1:]) if isinstance(value, torch.Tensor) else value


def prompts_of(task: Task) -> tuple[str, str]:
    """The words of a task, and those to steer away from."""
    return task.prompt, task.negative_prompt


def packed(x: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, H, W) as tokens of 2 x 2, (B, H * W / 4, 4 * C), channel first within a token."""
    return F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The way back from `packed`, to latents of this height and width."""
    grid = tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2))
    return F.pixel_shuffle(grid, 2)


Model = LatentModel | PipelineModel


def load_pipeline(card: ModelCard, hash: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in a folder that a diffusers pipeline saved; LoadError, in words, if it is not whole."""
    name = read_json(card.folder, "model_index.json").get("_class_name")
    if name not in PIPELINES:
        known = ", ".join(PIPELINES)
        raise LoadError(f"{card.folder} holds a {name}, which cannot be used here; known are {known}.")
    for part in card.folder.iterdir():
        endings = {path.suffix for path in part.glob("*")}
        if ".safetensors" not in endings and endings & set(PICKLES):
            raise LoadError(PICKLED.format(folder=part))
    try:
        pipe = getattr(importlib.import_module("diffusers"), name).from_pretrained(
            card.folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise LoadError(
            f"{card.folder} is damaged or not whole: {why} Copy or download the model again."
        ) from error
    pipe.to(device)
    if pipe.vae.dtype != autoencoder_dtype(dtype):
        pipe.vae.to(dtype=autoencoder_dtype(dtype))
    home, _, kind = PIPELINES[name].model.rpartition(".")
    model = getattr(importlib.import_module(home), kind)
    return model(
        card=card, pipe=pipe, noise_schedule=noise_of(card), factor=model.pixels(pipe),
        hash=hash, device=device, dtype=dtype,
    )  # fmt: skip
