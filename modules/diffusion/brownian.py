"""DPM++ SDE lives here: its noise is a Brownian motion, the same path at every number of steps."""

from __future__ import annotations

from typing import Any

import torch

from modules.lean import sparing

with sparing():
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler, DPMSolverSDEScheduler

Generators = list[torch.Generator] | None


class CorrectedDPMSDE(DPMSolverSDEScheduler):
    """DPM++ SDE whose motion is drawn on the CPU, picture by picture, from each one's own generator."""

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        generator: Generators = None,
        **kwargs: Any,
    ) -> Any:
        """Half a step; ``generator``: one a picture, used once to seed that picture's Brownian tree."""
        if self.noise_sampler is None:
            self.noise_sampler = self.brownian(sample, generator)
        return super().step(model_output, timestep, sample, **kwargs)

    def brownian(self, sample: torch.Tensor, generators: Generators) -> Any:
        """The motion between two sigmas, scaled to unit variance, on the sample's device."""
        sources = generators or [None] * len(sample)
        seeds = [int(torch.randint(2**63 - 1, (), generator=source)) for source in sources]
        still = torch.zeros(sample.shape, dtype=sample.dtype)
        tree = BrownianTreeNoiseSampler(still, 0.0, 1.01 * self.sigmas.max().item(), seeds)
        return lambda sigma, sigma_next: tree(sigma, sigma_next).to(sample.device)
