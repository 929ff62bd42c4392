"""Many requests become pictures here, those that are walked alike together in one batch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from modules.diffusion.guidance import guided
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import make_scheduler
from modules.engine.generation import Result, generate, noise
from modules.images import to_pil
from modules.models.conditioning import Condition, Conditions
from modules.models.latent import LatentModel
from modules.tasks import Task

TOGETHER = 16  # pictures in one network call: more gains nothing here
DECODED = 4  # pictures in one call of the decoder, which needs far more memory


def painted(model: LatentModel, task: Task) -> np.ndarray:
    """The batch of a task of any kind, (B, H, W, 3) uint8, through the same door as the app."""
    *_, result = generate(model, task)
    assert isinstance(result, Result)
    return np.stack([np.asarray(picture) for picture in result.images])


def paint(model: LatentModel, tasks: Sequence[Task]) -> list[np.ndarray]:
    """One picture (H, W, 3) uint8 for each request from words and classes, as `painted` would paint it."""
    return developed(model, latents_of(model, tasks)) if tasks else []


@torch.no_grad()
def latents_of(model: LatentModel, tasks: Sequence[Task]) -> torch.Tensor:
    """The latents that requests of one size and one picture each lead to, (N, channels, h, w)."""
    told = [model.conditions(task) for task in tasks]
    alike: dict[tuple, list[int]] = defaultdict(list)
    for i, (task, one) in enumerate(zip(tasks, told)):
        weights = tuple(weight for _, weight in one.weighted)
        alike[task.sampler, task.schedule, task.steps, weights].append(i)
    out: list[torch.Tensor] = [torch.empty(0)] * len(tasks)
    for rows in alike.values():
        for some in (rows[i : i + TOGETHER] for i in range(0, len(rows), TOGETHER)):
            walked = _walked(model, [tasks[i] for i in some], [told[i] for i in some])
            for i, latents in zip(some, walked):
                out[i] = latents
    return torch.stack(out)


def _walked(model: LatentModel, tasks: list[Task], told: list[Conditions]) -> torch.Tensor:
    """The latents of requests that differ in words, class and seed only."""
    first = tasks[0]
    weighted = [
        (_side_by_side([one.weighted[i][0] for one in told]), weight)
        for i, (_, weight) in enumerate(told[0].weighted)
    ]
    base = _side_by_side([one.base for one in told])
    denoise = guided(model.predict, base, weighted, timesteps=len(model.noise_schedule))
    scheduler = make_scheduler(first.sampler, first.schedule, model.noise_schedule)
    generators = [torch.Generator("cpu").manual_seed(task.seed) for task in tasks]
    start = noise(generators, model.latent_shape(first.width, first.height))
    *_, last = sample(denoise, scheduler, start, first.steps, generators=generators)
    return last.latents


def _side_by_side(conditions: list[Condition]) -> Condition:
    """One condition for a batch, in which each picture is told its own words."""
    return replace(conditions[0], states=torch.cat([one.states for one in conditions]))


def developed(model: LatentModel, latents: torch.Tensor) -> list[np.ndarray]:
    """Latents as pictures, (H, W, 3) uint8 each."""
    return [np.asarray(one) for some in latents.split(DECODED) for one in to_pil(model.decode(some))]
