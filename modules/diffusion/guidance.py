"""Several predictions become one here: a base and any number of weighted conditions over it.

``eps = eps_base + sum_i w_i * (eps_i - eps_base)``: weight 1 of a single condition is no guidance at all, as
in diffusers; papers that write (1 + w) eps_c - w eps_0 have w one lower (Ho and Salimans 2022, eq. 6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from modules.diffusion.flow import Noise
from modules.diffusion.parameterization import from_x0, to_x0

Condition = TypeVar("Condition")
Network = Callable[[torch.Tensor, float, list[Any]], torch.Tensor]
Term = tuple[Any, float]
Rescale = float | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Prediction:
    """What the network said of a sample; ``norm``: root mean square of guidance's share in ``value``."""

    value: torch.Tensor
    norm: float = 0.0


Denoiser = Callable[[torch.Tensor, float], Prediction]


def guided(
    predict: Network,
    base: Condition,
    conditions: Sequence[tuple[Condition, float]] = (),
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: Rescale = 0.0,
    timesteps: int = 1000,
) -> Denoiser:
    """A function of (x, t) that asks the network once for every condition that counts, and combines the
    answers.

    ``predict(x, t, conditions)`` gets ``x`` of shape (k * B, ...), k copies of the batch one after another,
    and a list of k conditions; it returns predictions of that shape. A term whose coefficient is 0 is never
    asked for, so weight 0 costs no pass, and neither does the base when the weights add up to 1.
    ``interval``: the part of the way from noise (0) to picture (1), in timesteps, on which guidance acts;
    elsewhere the weights are scaled down to a sum of 1 (Kynkäänniemi et al. 2024). ``rescale``: from 0 to 1,
    how far the spread of the answer is drawn back to that of the conditions alone (Lin et al. 2024, eq. 15
    and 16); or a function that draws the answer back to the conditions' own in some other way.
    """
    total = sum(weight for _, weight in conditions)
    calm = [(condition, weight / max(total, 1.0)) for condition, weight in conditions]
    inside, outside = terms(base, conditions), terms(base, calm)

    def denoise(x: torch.Tensor, t: float) -> Prediction:
        progress = 1 - t / (timesteps - 1)
        active = inside if interval[0] <= progress <= interval[1] else outside
        answers = predict(torch.cat([x] * len(active)), t, [condition for condition, _, _ in active])
        return combine(answers.chunk(len(active)), active, rescale)

    return denoise


def terms(base: Any, conditions: Sequence[Term]) -> list[tuple[Any, float, bool]]:
    """The (condition, coefficient, is base) of a guided prediction, without coefficients of 0."""
    share = 1 - sum(weight for _, weight in conditions)
    everything = [(base, share, True), *((condition, weight, False) for condition, weight in conditions)]
    return [term for term in everything if abs(term[1]) > 1e-9]


def combine(
    answers: Sequence[torch.Tensor], active: Sequence[tuple[Any, float, bool]], rescale: Rescale
) -> Prediction:
    """The weighted sum of the answers, rescaled, and how much guidance added to the base."""
    if len(active) == 1:
        return Prediction(answers[0])
    value = torch.stack([answer * term[1] for answer, term in zip(answers, active, strict=True)]).sum(dim=0)
    bases = [answer for answer, term in zip(answers, active, strict=True) if term[2]]
    norm = (value - bases[0]).float().square().mean().sqrt().item() if bases else 0.0
    if rescale:
        value = rescaled(value, answers, active, rescale)
    return Prediction(value, norm)


def rescaled(
    value: torch.Tensor,
    answers: Sequence[torch.Tensor],
    active: Sequence[tuple[Any, float, bool]],
    rescale: Rescale,
) -> torch.Tensor:
    """``value`` with each picture's spread drawn towards that of the conditions' own weighted mean."""
    own = [(answer, abs(term[1])) for answer, term in zip(answers, active, strict=True) if not term[2]]
    mean = torch.stack([answer * weight for answer, weight in own]).sum(dim=0) / sum(
        weight for _, weight in own
    )
    if callable(rescale):
        return rescale(value, mean)
    axes = tuple(range(1, value.ndim))
    factor = mean.std(dim=axes, keepdim=True) / value.std(dim=axes, keepdim=True)
    return value * (rescale * factor + 1 - rescale)


def classifier_guided(
    denoise: Denoiser,
    gradient: Callable[[torch.Tensor, float], torch.Tensor],
    scale: float,
    noise_schedule: Noise,
) -> Denoiser:
    """A denoiser pushed towards what a classifier of noisy samples likes (Dhariwal and Nichol 2021, eq. 14).

    ``gradient(x, t)``: of log p(y given x_t) with respect to x_t. In eps: ``eps - scale * sigma * gradient``,
    which holds for every prediction type, since it moves x_0 by ``scale * sigma**2 / alpha * gradient``.
    """
    kind = noise_schedule.prediction_type

    def pushed(x: torch.Tensor, t: float) -> Prediction:
        alpha, sigma = noise_schedule.level_at(t)
        said, push = denoise(x, t), scale * gradient(x, t)
        x0 = to_x0(kind, said.value, x, alpha, sigma) + sigma**2 / alpha * push
        norm = (said.norm**2 + float((sigma * push).square().mean())) ** 0.5
        return Prediction(from_x0(kind, x0, x, alpha, sigma), norm)

    return pushed
