"""How much noise there is at each timestep of training lives here.

One currency in this room: a sample is ``x_t = alpha * x_0 + sigma * eps`` with ``alpha**2 + sigma**2 == 1``
(variance preserving), ``alphas_cumprod = alpha**2``, and SNR is the power ratio ``alpha**2 / sigma**2``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray

SMALLEST_ALPHAS_CUMPROD = 2.0**-24
"""Stands for zero, as in diffusers, so that logarithms and divisions stay finite at zero terminal SNR."""


def linear(steps: int, start: float, end: float) -> Array:
    """Betas that rise evenly (Ho et al. 2020, section 4)."""
    return np.linspace(start, end, steps)


def scaled_linear(steps: int, start: float, end: float) -> Array:
    """Betas whose square roots rise evenly (Rombach et al. 2022); Stable Diffusion's and Pocket's."""
    return np.linspace(start**0.5, end**0.5, steps) ** 2


def cosine(steps: int, start: float, end: float) -> Array:
    """Betas at most 0.999 whose alphas_cumprod is a squared cosine (Nichol and Dhariwal 2021, eq. 17)."""
    del start, end
    edges = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - edges[1:] / edges[:-1], 0.999)


def sigmoid(steps: int, start: float, end: float) -> Array:
    """Betas that rise along a logistic curve from -6 to 6 (GeoDiff; diffusers' ``sigmoid``)."""
    return start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, steps)))


def logarithmic(steps: int, start: float, end: float) -> Array:
    """Betas whose logarithms rise evenly."""
    return np.geomspace(start, end, steps)


BETAS: dict[str, Callable[[int, float, float], Array]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "logarithmic": logarithmic,
}

DIFFUSERS_NAMES = {"squaredcos_cap_v2": "cosine"}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise levels, one entry each: ``t`` in training steps (may be fractional), alpha and sigma without
    unit.

    All are float64 arrays of one length; ``alpha**2 + sigma**2 == 1``.
    """

    t: Array
    alpha: Array
    sigma: Array

    @classmethod
    def from_ratio(cls, t: Array, ratio: Array) -> Levels:
        """Levels from sigma / alpha, which Karras et al. 2022 and the sigma-based schedulers call sigma."""
        ratio = np.asarray(ratio, dtype=np.float64)
        scale = np.sqrt(1 + ratio**2)
        return cls(np.asarray(t, dtype=np.float64), 1 / scale, ratio / scale)

    @property
    def snr(self) -> Array:
        """Power signal-to-noise ratio, alpha**2 / sigma**2."""
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> Array:
        """Natural logarithm of the power signal-to-noise ratio."""
        return 2 * np.log(self.alpha / self.sigma)

    def at(self, index: int) -> tuple[float, float, float]:
        """(t, alpha, sigma) of one entry, as plain numbers."""
        return float(self.t[index]), float(self.alpha[index]), float(self.sigma[index])

    def __len__(self) -> int:
        return len(self.t)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists under the keys ``t``, ``alpha``, ``sigma``, ``snr`` and ``log_snr``, fit for JSON."""
        return {name: getattr(self, name).tolist() for name in ("t", "alpha", "sigma", "snr", "log_snr")}


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The levels that a network was trained on, and what it predicts.

    ``alphas_cumprod``: float64, one entry per training timestep, strictly falling inside (0, 1).
    Raises ValueError for anything else.
    """

    alphas_cumprod: Array
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        values = np.array(self.alphas_cumprod, dtype=np.float64)
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(
                f"alphas_cumprod must be a list of at least 2 numbers, not of shape {values.shape}."
            )
        if not (
            np.all(np.isfinite(values)) and values[-1] > 0 and values[0] < 1 and np.all(np.diff(values) < 0)
        ):
            raise ValueError("alphas_cumprod must fall strictly, between 1 and 0.")
        if self.prediction_type not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise ValueError(f"prediction_type is {self.prediction_type!r}; it must be one of {known}.")
        values.setflags(write=False)
        object.__setattr__(self, "alphas_cumprod", values)

    @classmethod
    def from_betas(
        cls,
        kind: str | Sequence[float] | Array = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        steps: int = 1000,
        prediction_type: str = "epsilon",
    ) -> NoiseSchedule:
        """A schedule from a name in ``BETAS``, or from any array of betas (a learned one, for example)."""
        if isinstance(kind, str):
            name = DIFFUSERS_NAMES.get(kind, kind)
            if name not in BETAS:
                raise ValueError(f"beta schedule {kind!r} is unknown; choose one of {', '.join(BETAS)}.")
            betas = BETAS[name](steps, beta_start, beta_end)
        else:
            betas = np.asarray(kind, dtype=np.float64)
        return cls(np.cumprod(1 - betas), prediction_type)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """The schedule described by a diffusers scheduler's configuration, defaults as in diffusers' DDIM."""
        betas = config.get("trained_betas")
        schedule = cls.from_betas(
            betas if betas is not None else config.get("beta_schedule", "linear"),
            config.get("beta_start", 0.0001),
            config.get("beta_end", 0.02),
            config.get("num_train_timesteps", 1000),
            config.get("prediction_type", "epsilon"),
        )
        return schedule.with_zero_terminal_snr() if config.get("rescale_betas_zero_snr") else schedule

    def with_zero_terminal_snr(self) -> NoiseSchedule:
        """The same schedule stretched until its last level is pure noise (Lin et al. 2024, algorithm 1)."""
        alpha = np.sqrt(self.alphas_cumprod)
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        values = alpha**2
        values[-1] = min(SMALLEST_ALPHAS_CUMPROD, values[-2] / 2)
        return NoiseSchedule(values, self.prediction_type)

    def at(self, width: int, height: int) -> NoiseSchedule:
        """This schedule: it is the same for pictures of every size, unlike a flow's."""
        del width, height
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> tuple[bytes, str]:
        return self.alphas_cumprod.tobytes(), self.prediction_type

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @cached_property
    def betas(self) -> Array:
        """The variance added at each training step; its running product gives alphas_cumprod back."""
        return 1 - self.alphas_cumprod / np.concatenate([[1.0], self.alphas_cumprod[:-1]])

    @cached_property
    def log_ratio(self) -> Array:
        """log(sigma / alpha) at each training timestep, rising."""
        return 0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod))

    def timestep_of(self, ratio: Array) -> Array:
        """The fractional timesteps at which sigma / alpha has these values, log-linear between grid points.

        Values beyond the grid give its first or last timestep, values within a thousandth of a timestep that
        one.
        """
        t = np.interp(np.log(ratio), self.log_ratio, np.arange(len(self)))
        return np.where(abs(t - np.rint(t)) < 1e-3, np.rint(t), t)

    def level_at(self, t: float) -> tuple[float, float]:
        """(alpha, sigma) at a timestep, which may be fractional; the inverse of ``timestep_of``."""
        ratio = float(np.exp(np.interp(t, np.arange(len(self)), self.log_ratio)))
        alpha = 1 / (1 + ratio**2) ** 0.5
        return alpha, alpha * ratio

    def levels(self) -> Levels:
        """Every level of the training grid, timestep 0 first."""
        alphas_cumprod = self.alphas_cumprod
        return Levels(
            np.arange(len(self), dtype=np.float64), np.sqrt(alphas_cumprod), np.sqrt(1 - alphas_cumprod)
        )


STABLE_DIFFUSION = NoiseSchedule.from_betas()
"""Scaled linear betas, 0.00085 to 0.012 over 1000 steps, eps: Stable Diffusion 1 and Pocket."""
