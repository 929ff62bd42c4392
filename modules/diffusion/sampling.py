"""The loop that turns noise into latents lives here; all else wraps what it takes, or iterates over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from modules.diffusion.guidance import Denoiser
from modules.diffusion.parameterization import from_x0, to_x0
from modules.diffusion.schedule import Scheduler


@dataclass(frozen=True)
class Step:
    """What happened at one network call, ``index`` of ``total`` (from 0).

    ``t``: the training timestep that the network was told, maybe fractional; ``alpha``, ``sigma``, ``snr``:
    the level of the sample that it saw. ``latents``: the sample after the step, in variance-preserving scale,
    shape (B, C, H, W); the last step's are the result. ``predicted_x0``: the clean latents that the network
    had in mind. ``guidance_norm``: root mean square of what guidance added to the base prediction.
    """

    index: int
    total: int
    t: float
    alpha: float
    sigma: float
    snr: float
    latents: torch.Tensor
    predicted_x0: torch.Tensor
    guidance_norm: float


def sample(
    denoise: Denoiser,
    scheduler: Scheduler,
    start: torch.Tensor,
    steps: int,
    *,
    generators: Sequence[torch.Generator] | None = None,
    strength: float = 1.0,
) -> Iterator[Step]:
    """Walk from ``start`` to a picture, one Step for every network call; closing the iterator frees
    everything.

    ``denoise(x, t)``: the guided network, answering in its noise schedule's ``prediction_type`` for ``x`` of
    unit variance. ``start``: unit noise (B, C, H, W), or where ``strength`` is below 1 latents noised to the
    first level visited. ``generators``: one CPU generator a picture, for the samplers that add noise, so that
    a picture does not depend on its neighbours in the batch.
    """
    walk = scheduler.walk(steps, strength)
    kind, scales = scheduler.noise_schedule.prediction_type, walk.scales.tolist()
    fresh_noise = {"generator": list(generators)} if generators and scheduler.sampler.stochastic else {}
    latents = start * scales[0]
    for index, timestep in enumerate(walk.timesteps):
        t, alpha, sigma = walk.levels.at(index)
        _, heard_alpha, heard_sigma = walk.heard.at(index)
        x = walk.scheduler.scale_model_input(latents, timestep)
        said = denoise(x, t)
        x0 = to_x0(kind, said.value, x, heard_alpha, heard_sigma)
        heard = from_x0(walk.hears, x0, x, alpha, sigma)
        latents = walk.scheduler.step(heard, timestep, latents, return_dict=False, **fresh_noise)[0]
        snr = (alpha / sigma) ** 2
        yield Step(index, len(walk.levels), t, alpha, sigma, snr, latents / scales[index + 1], x0, said.norm)
