"""How much noise there is at each timestep of a rectified flow, and where its steps go, lives here.

A flow's own sample is ``(1 - s) * x_0 + s * eps`` (Liu et al. 2023; Esser et al. 2024, eq. 13), with ``s``
from 1, noise, to 0, picture, and its SNR is ``((1 - s) / s) ** 2``. Everywhere else in this room the same
pair (x_0, eps) is held at unit variance: divide the flow's sample by ``unit(s)`` for that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modules.diffusion.noise import SMALLEST_ALPHAS_CUMPROD, Array, Levels, NoiseSchedule

TIMESTEPS = 1000
PIXELS_PER_TOKEN = 256
"""Every flow model here sees 16 x 16 pixels as one token."""


def unit(s: Any) -> Any:
    """The standard deviation of a flow's sample of unit latents at ``s``."""
    return np.hypot(1 - s, s)


def given(config: Mapping[str, Any], tokens: int, steps: int) -> float:
    """The configuration's own shift, whatever the picture's size."""
    del tokens, steps
    return config.get("shift", 1.0)


def by_size(config: Mapping[str, Any], tokens: int, steps: int) -> float:
    """More noise for larger pictures, along a line in tokens (Black Forest Labs, FLUX.1).

    The line gives mu; the shift is its exponential, or mu itself where the configuration says "linear".
    """
    del steps
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (tokens - few) * (high - low) / (many - few)
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def by_size_and_steps(config: Mapping[str, Any], tokens: int, steps: int) -> float:
    """As FLUX.2's authors fitted it: between two lines in tokens, for 10 steps and for 200."""
    del config
    few, many = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return math.exp(many)
    slope = (many - few) / 190
    return math.exp(slope * steps + many - 200 * slope)


SHIFTS: dict[str, Callable[[Mapping[str, Any], int, int], float]] = {
    "given": given,
    "by_size": by_size,
    "by_size_and_steps": by_size_and_steps,
}


@dataclass(frozen=True)
class FlowSchedule:
    """The levels of a rectified flow, and how a model's authors spread the steps of a walk over them.

    ``config``: the diffusers scheduler's configuration, as pairs. ``shift``: which of ``SHIFTS`` holds where
    the configuration asks for dynamic shifting. ``full_grid``: steps are spread over the whole training grid,
    as StableDiffusion3Pipeline does, instead of ending at 1 / steps. ``tokens``: of the picture to be made.
    Timesteps are 0 to 1000, ``1000 * s``; 0, a clean picture, is no level of training.
    """

    config: tuple[tuple[str, Any], ...] = ()
    shift: str = "by_size"
    full_grid: bool = False
    tokens: int = 4096
    prediction_type = "flow"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], shift: str = "by_size", full_grid: bool = False
    ) -> FlowSchedule:
        """The schedule that a diffusers flow scheduler's configuration describes."""
        plain = {name: value for name, value in config.items() if isinstance(value, str | int | float)}
        shift = shift if config.get("use_dynamic_shifting") else "given"
        return cls(tuple(sorted(plain.items())), shift, full_grid)

    def at(self, width: int, height: int) -> FlowSchedule:
        """The same schedule for pictures of this size, in pixels."""
        return dataclasses.replace(self, tokens=max(1, width * height // PIXELS_PER_TOKEN))

    def __len__(self) -> int:
        return TIMESTEPS + 1

    def sigmas(self, steps: int) -> Array:
        """``s`` at the start of each of so many steps, noise first; the walk ends at 0."""
        config = dict(self.config)
        shift = SHIFTS[self.shift](config, self.tokens, steps)
        last = 1 / steps
        if self.full_grid:  # a fixed shift is in the grid already, and diffusers applies it once more below
            last = shifted(np.float64(1 / TIMESTEPS), shift if self.shift == "given" else 1.0)
        s = shifted(np.linspace(1.0, last, steps), shift)
        if terminal := config.get("shift_terminal"):
            s = 1 - (1 - s) * (1 - terminal) / (1 - s[-1]) if s[-1] < 1 else s
        return s

    def levels_of(self, s: Array) -> Levels:
        """The levels at these ``s``; where nothing of the picture is left, SNR is 2**-24 instead of 0."""
        signal = np.maximum(1 - np.asarray(s, dtype=np.float64), SMALLEST_ALPHAS_CUMPROD**0.5)
        size = np.hypot(signal, s)
        return Levels(TIMESTEPS * np.asarray(s, dtype=np.float64), signal / size, s / size)

    def levels(self) -> Levels:
        """Every level of the training grid, timestep 1 first."""
        return self.levels_of(np.arange(1, TIMESTEPS + 1) / TIMESTEPS)

    @cached_property
    def log_ratio(self) -> Array:
        """log(sigma / alpha) at timesteps 1 to 1000, rising."""
        return -0.5 * self.levels().log_snr

    def timestep_of(self, ratio: Array) -> Array:
        """The fractional timesteps at which sigma / alpha has these values."""
        return TIMESTEPS * np.asarray(ratio) / (1 + np.asarray(ratio))

    def level_at(self, t: float) -> tuple[float, float]:
        """(alpha, sigma) at a timestep, which may be fractional."""
        _, alpha, sigma = self.levels_of(np.array([t / TIMESTEPS])).at(0)
        return alpha, sigma


Noise = NoiseSchedule | FlowSchedule
"""What any model here was trained on; the two have one face."""


def shifted(s: Any, shift: float) -> Any:
    """Levels moved towards noise by a factor in s / (1 - s) (Esser et al. 2024, eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


def as_it_is(s: Array) -> Array:
    """Where the model's authors put them."""
    return s


def karras(s: Array) -> Array:
    """Even in s ** (1/7) between the same ends."""
    return np.linspace(s[0] ** (1 / 7), s[-1] ** (1 / 7), len(s)) ** 7


def exponential(s: Array) -> Array:
    """Even in log s between the same ends."""
    return np.exp(np.linspace(np.log(s[0]), np.log(s[-1]), len(s)))


def beta(s: Array) -> Array:
    """At the quantiles of a beta distribution between the same ends."""
    from scipy.special import betaincinv

    return s[-1] + betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, len(s))) * (s[0] - s[-1])
