"""What a diffusers scheduler lacks for walking a rectified flow in our loop lives here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from modules.diffusion.flow import TIMESTEPS, unit


class Flowing:
    """Mixed into a scheduler whose sample is a flow's own: it walks given sigmas, and shows unit samples."""

    def lay(self: Any, sigmas: np.ndarray, calls_per_step: int) -> None:
        """Walk these sigmas and end at 0; where a step makes two calls, each inside is visited twice."""
        self.set_timesteps(len(sigmas))
        inner = np.repeat(sigmas[1:], calls_per_step)
        self.sigmas = torch.tensor([sigmas[0], *inner, 0.0], dtype=torch.float32)
        self.timesteps = self.sigmas[:-1] * TIMESTEPS

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The sample at unit variance."""
        return sample / unit(float(timestep) / TIMESTEPS)
