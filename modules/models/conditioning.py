"""What a network is told beside the noise level lives here, and how a task's words and pictures become it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch

from modules.conditions.text import Encoded
from modules.diffusion.guidance import Rescale
from modules.models.maps import Control
from modules.tasks import ClassConditional, Task, TaskError, not_one_of


@dataclass(frozen=True)
class Condition:
    """What one network call is told.

    `states`: token states, (1, length, width). `added`: what goes into the U-Net's added embedding, each
    (1, ...), by diffusers' names ("text_embeds", "time_ids"). `beside`: latents (1, channels, height, width)
    that lie beside the sample as more channels. `guidance`: the guidance weight as a distilled network hears
    it, (1, width).
    """

    states: torch.Tensor
    added: Mapping[str, torch.Tensor] = field(default_factory=dict)
    beside: torch.Tensor | None = None
    guidance: torch.Tensor | None = None


@dataclass(frozen=True)
class Conditions:
    """A task as guidance takes it: a base, conditions with their weights, and the words that were cut.

    `controls` hold for base and conditions alike: guidance drops the words and keeps the maps. `record` goes
    into the picture's info. `rescale` is what `guided` does to its answer.
    """

    base: Condition
    weighted: tuple[tuple[Condition, float], ...]
    words_cut: int = 0
    controls: tuple[Control, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    rescale: Rescale = 0.0


class Scene(NamedTuple):
    """Where a task is painted: width and height in pixels, and latents that lie beside the sample, if any."""

    width: int
    height: int
    beside: torch.Tensor | None = None


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


class Telling(Protocol):
    """How a model family makes a Condition out of words; every family has its own."""

    def __call__(self, text: Encoded, scene: Scene) -> Condition:
        """The condition of a text for a scene."""
        ...


def by_words(text: Encoded, scene: Scene) -> Condition:
    """SD 1 and 2: the token states are all there is."""
    return Condition(text.states, beside=scene.beside)


def by_words_and_size(text: Encoded, scene: Scene) -> Condition:
    """SDXL: beside the states, the pooled text and the size that the picture is to look as if it had.

    Podell et al. 2023, section 2.2: original height and width, top and left of the crop, target height and
    width. As in diffusers, the picture is wanted whole and at its own size.
    """
    size = (scene.height, scene.width)
    ids = torch.tensor([[*size, 0.0, 0.0, *size]]).to(text.states)
    pooled = torch.empty(1, 0) if text.pooled is None else text.pooled
    return Condition(text.states, {"text_embeds": pooled, "time_ids": ids}, scene.beside)


def without_words(condition: Condition) -> Condition:
    """The condition with zeros for all that words say; sizes stay."""
    added = {
        name: torch.zeros_like(value) if name == "text_embeds" else value
        for name, value in condition.added.items()
    }
    return replace(condition, states=torch.zeros_like(condition.states), added=added)


def guidance_embedding(scale: float, width: int) -> torch.Tensor:
    """A guidance weight as sines and cosines, (1, width), for a network that was distilled with it.

    Luo et al. 2023 (latent consistency models), section 4.2, whose weight is the scale less 1, in thousands.
    """
    half = width // 2
    waves = torch.exp(torch.arange(half) * (-math.log(10_000.0) / (half - 1))) * (scale - 1) * 1000
    embedded = torch.cat([waves.sin(), waves.cos()])[None]
    return torch.nn.functional.pad(embedded, (0, width % 2))


def with_class(condition: Condition, classes: ClassTokens | None, name: str | None) -> Condition:
    """The condition with a class's token after its words; as it is where the model has no classes."""
    if classes is None:
        return condition
    token = classes(name).to(condition.states)
    return replace(condition, states=torch.cat([condition.states, token], dim=1))


def over_a_picture(
    words: Condition, weighted: Sequence[tuple[Condition, float]], scale: float
) -> tuple[Condition, list[tuple[Condition, float]]]:
    """Base and weighted conditions where a picture beside the sample has a guidance weight of its own.

    Brooks et al. 2023 (InstructPix2Pix), eq. 3, as one sum over the base that knows neither words nor
    picture: the picture's weight there is `scale` less what the words have, so that it acts alone and theirs
    acts over it.
    """
    if words.beside is None:
        return words, [*weighted]
    said = sum(weight for _, weight in weighted)
    nothing = replace(words, beside=torch.zeros_like(words.beside))
    return nothing, [(words, scale - said), *weighted]


def class_of(task: Task) -> str | None:
    """The class that a task names."""
    return task.class_name if isinstance(task, ClassConditional) else None


def stacked(values: Sequence[torch.Tensor | None], each: int) -> torch.Tensor | None:
    """Tensors (1, ...) one after another, each as often as the batch has pictures; None if there are none."""
    there = [value.expand(each, *value.shape[1:]) for value in values if value is not None]
    return torch.cat(there) if there else None
