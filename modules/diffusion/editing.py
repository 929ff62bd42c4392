"""Editing lives here: starting from a picture, and keeping part of one, as wrappers of the one loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from modules.diffusion.flow import Noise
from modules.diffusion.guidance import Denoiser, Prediction
from modules.diffusion.parameterization import from_x0, noised, to_x0
from modules.diffusion.sampling import Step, sample
from modules.diffusion.schedule import Scheduler


def image_to_image(
    denoise: Denoiser,
    scheduler: Scheduler,
    picture: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
    *,
    strength: float,
    generators: Sequence[torch.Generator] | None = None,
) -> Iterator[Step]:
    """Noise a picture to a level part of the way up, and walk from there (Meng et al. 2022, SDEdit).

    ``picture``: clean latents (B, C, H, W); ``noise``: unit noise of that shape; ``strength``: above 0, at
    most 1, the share of the steps that are walked, so that 1 forgets nearly all of the picture.
    """
    _, alpha, sigma = scheduler.walk(steps, strength).levels.at(0)
    start = noised(picture, noise, alpha, sigma)
    return sample(denoise, scheduler, start, steps, generators=generators, strength=strength)


def inpainted(
    denoise: Denoiser,
    known: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    noise_schedule: Noise,
) -> Denoiser:
    """A denoiser that repaints where ``mask`` is 1 and knows the answer where it is 0.

    The network sees ``known`` under one fixed ``noise`` at the level of every call, second-order ones too,
    and the solver is told that x_0 is ``known`` there, so every sampler ends on it. ``known`` and ``noise``:
    latents (B, C, H, W); ``mask`` broadcasts against them, 0 to 1; start the walk from the same ``noise``.
    """
    kind = noise_schedule.prediction_type

    def blended(x: torch.Tensor, t: float) -> Prediction:
        alpha, sigma = noise_schedule.level_at(t)
        seen = mask * x + (1 - mask) * noised(known, noise, alpha, sigma)
        said = denoise(seen, t)
        x0 = mask * to_x0(kind, said.value, seen, alpha, sigma) + (1 - mask) * known
        return Prediction(from_x0(kind, x0, x, alpha, sigma), said.norm)

    return blended
