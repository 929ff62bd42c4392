"""Worlds simple enough that the best possible denoiser is a formula live here, to check samplers against
truth.

For a Gaussian, a mixture of Gaussians or a finite set of pictures, E[x_0 given x_t] is known exactly; every
other prediction, the score and the log density follow from it (theory rows 11, 13, 19, 24).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from modules.diffusion.flow import Noise
from modules.diffusion.guidance import Denoiser, Prediction
from modules.diffusion.noise import STABLE_DIFFUSION
from modules.diffusion.parameterization import from_x0


class World(Protocol):
    """Anything that knows E[x_0 given x_t] at a level."""

    def denoise(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        """The mean of x_0 given the noisy sample ``x``, shape as ``x``."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Every pixel of every picture is drawn from N(mean, std**2), each on its own."""

    std: float = 0.5
    mean: float = 0.0

    def denoise(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        """The mean of x_0 given ``x``."""
        gain = alpha * self.std**2 / self.marginal_std(alpha, sigma) ** 2
        return self.mean + gain * (x - alpha * self.mean)

    def marginal_std(self, alpha: float, sigma: float) -> float:
        """The spread of x_t."""
        return (alpha**2 * self.std**2 + sigma**2) ** 0.5

    def end_of_path(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        """Where the probability-flow ODE brings ``x``: the exact consistency function (Song 2023)."""
        return self.mean + self.std / self.marginal_std(alpha, sigma) * (x - alpha * self.mean)


@dataclass(frozen=True)
class Mixture:
    """Pictures are drawn around one of K means, with chances that add up to 1 and one spread each.

    ``means``: (K, ...), shaped as one picture; ``stds`` and ``chances``: (K,). With stds 0 it is a finite
    data set.
    """

    means: torch.Tensor
    stds: torch.Tensor
    chances: torch.Tensor

    def log_joint(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        """log p(x_t, component), shape (B, K)."""
        variances = alpha**2 * self.stds**2 + sigma**2
        away = x.flatten(1)[:, None] - alpha * self.means.flatten(1)[None]
        size = away.shape[-1]
        log_density = -0.5 * away.square().sum(-1) / variances - 0.5 * size * torch.log(
            2 * torch.pi * variances
        )
        return log_density + self.chances.log()

    def denoise(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        """The mean of x_0 given ``x``: each component's own, weighted by how likely it is to be the one."""
        share = self.log_joint(x, alpha, sigma).softmax(dim=1)
        gains = alpha * self.stds**2 / (alpha**2 * self.stds**2 + sigma**2)
        means = self.means.flatten(1)[None]
        each = means + gains[None, :, None] * (x.flatten(1)[:, None] - alpha * means)
        return (share[..., None] * each).sum(dim=1).reshape(x.shape)


def network(
    world: World, noise_schedule: Noise = STABLE_DIFFUSION
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """The best possible network for this world: (x, t) to the schedule's ``prediction_type``."""

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        alpha, sigma = noise_schedule.level_at(t)
        return from_x0(noise_schedule.prediction_type, world.denoise(x, alpha, sigma), x, alpha, sigma)

    return predict


def denoiser(world: World, noise_schedule: Noise = STABLE_DIFFUSION) -> Denoiser:
    """The best possible network for this world, in the form that ``sampling.sample`` takes."""
    predict = network(world, noise_schedule)
    return lambda x, t: Prediction(predict(x, t))


def consistency_denoiser(world: Gaussian, noise_schedule: Noise = STABLE_DIFFUSION) -> Denoiser:
    """The best possible consistency-distilled network: it answers with the path's end, not a mean."""

    def predict(x: torch.Tensor, t: float) -> Prediction:
        alpha, sigma = noise_schedule.level_at(t)
        end = world.end_of_path(x, alpha, sigma)
        return Prediction(from_x0(noise_schedule.prediction_type, end, x, alpha, sigma))

    return predict
