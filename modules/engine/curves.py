"""Which samplers, spacings and noise levels a model's card allows is answered here; no weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modules import tasks
from modules.diffusion.samplers import FLOW_SAMPLERS, SAMPLERS, Sampler
from modules.models.catalog import ModelCard
from modules.models.levels import FLOWS, noise_of
from modules.tasks import Task, TaskError, TextToImage

if TYPE_CHECKING:
    from modules.diffusion.flow import Noise


def samplers(card: ModelCard) -> Mapping[str, Sampler]:
    """The samplers that can walk the model's noise, by name."""
    return FLOW_SAMPLERS if card.family in FLOWS else SAMPLERS


def sampler(card: ModelCard, name: str) -> Sampler:
    """A sampler by its name; TaskError if there is none, or none for this model."""
    known = samplers(card)
    if name not in known and name in SAMPLERS:
        raise TaskError("sampler", f"{name} cannot walk {card.title}'s noise; it has {', '.join(known)}.")
    if name not in known:
        raise TaskError("sampler", tasks.not_one_of("sampler", name, list(known)))
    return known[name]


def most_steps(card: ModelCard, name: str) -> int:
    """The largest number of steps that a sampler can take; TaskError as `sampler`."""
    return min(sampler(card, name).max_steps, int(tasks.limits(TextToImage, "steps").maximum))


def noise_for(
    card: ModelCard, task: Task, strength: float = 1.0, size: tuple[int, int] | None = None
) -> Noise:
    """The noise schedule of the model at a size, or the task's; TaskError unless its sampler can walk it."""
    from modules.diffusion.schedule import check

    spacings = sampler(card, task.sampler).spacings
    noise = noise_of(card).at(*(size or (task.width, task.height)))
    try:
        check(task.sampler, task.schedule, task.steps, noise, strength)
    except ValueError as error:
        raise TaskError("schedule" if task.schedule not in spacings else "steps", str(error)) from error
    return noise


def curve(
    card: ModelCard, task: Task, strength: float, size: tuple[int, int]
) -> dict[str, dict[str, list[float]]]:
    """The levels of the training grid, "train", and those that the task would visit, "visited"."""
    from modules.diffusion.schedule import training_levels, visited_levels

    noise = noise_for(card, task, strength, size)
    visited = visited_levels(task.sampler, task.schedule, task.steps, noise, strength)
    return {"train": training_levels(noise).to_dict(), "visited": visited.to_dict()}
