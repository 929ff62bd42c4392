"""Schedulers of diffusers 0.42 that misstep live here, each with what it gets wrong put right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from modules.lean import sparing

with sparing():
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler
    from diffusers.schedulers.scheduling_sasolver import SASolverScheduler

NEARLY_CLEAN = 1e-4
"""The last sigma of solvers whose formulas divide by it."""


class CorrectedDDIM(DDIMScheduler):
    """DDIM (Song et al. 2021, eq. 12, eta 0) that steps to the next timestep of its own list.

    The parent steps by a whole number of timesteps, which is not where the next call is unless the number of
    steps divides the grid.
    """

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sample at the next timestep, given the predicted eps."""
        index = int((self.timesteps == timestep).nonzero()[0])
        here = self.alphas_cumprod[timestep]
        last = index + 1 == len(self.timesteps)
        there = self.final_alpha_cumprod if last else self.alphas_cumprod[self.timesteps[index + 1]]
        x0 = (sample - (1 - here) ** 0.5 * model_output) / here**0.5
        return (there**0.5 * x0 + (1 - there) ** 0.5 * model_output,)


class CorrectedPNDM(PNDMScheduler):
    """PNDM (Liu et al. 2022, PLMS) that steps to the next timestep of its own list and may start late.

    The parent steps by a whole number of timesteps, as DDIM's does, and has no way to begin inside its list
    without losing the repeated second call from which its memory starts.
    """

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at step ``begin_index``: its timestep once, the one after it twice, and so on to the end."""
        before, steps = np.split(np.asarray(self._timesteps)[::-1], [begin_index])
        self.timesteps = torch.as_tensor(np.concatenate([before, steps[:2], steps[1:]]), dtype=torch.int64)
        self.begin_index = begin_index

    def _get_prev_sample(
        self, sample: torch.Tensor, timestep: Any, prev_timestep: Any, model_output: Any
    ) -> Any:
        walk = [*self.timesteps[self.begin_index :].tolist(), -1]
        index = 0 if self.counter <= 1 else self.counter
        return super()._get_prev_sample(sample, walk[index], walk[index + 1], model_output)


class CorrectedLMS(LMSDiscreteScheduler):
    """LMS whose order never exceeds the derivatives it remembers, so that it may start late.

    Its coefficients are integrals of polynomials, taken exactly here and by adaptive quadrature in the
    parent, which spends 6 ms a step on them.
    """

    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        """The integral over a step of the polynomial that is 1 at one remembered sigma, 0 at others."""
        sigmas = self.sigmas[t - order + 1 : t + 2].double().numpy()[::-1]
        here, others = sigmas[current_order + 1], np.delete(sigmas[1:], current_order)
        antiderivative = np.polyint(np.atleast_1d(np.poly(others)) / np.prod(here - others))
        return float(np.polyval(antiderivative, sigmas[0]) - np.polyval(antiderivative, sigmas[1]))

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One linear multistep, of order four once four derivatives are known."""
        return super().step(model_output, timestep, sample, order=min(4, len(self.derivatives) + 1), **kwargs)


class CorrectedDPM3MSDE(DPMSolverMultistepScheduler):
    """DPM++ 3M SDE with the third-order term's constant at +1/2 (Lu et al. 2022; k-diffusion), not -1/2."""

    def multistep_dpm_solver_third_order_update(
        self,
        model_output_list: list[torch.Tensor],
        *args: Any,
        sample: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The parent's update plus alpha * D2, which turns its -1/2 into +1/2."""
        wrong = super().multistep_dpm_solver_third_order_update(
            model_output_list, *args, sample=sample, **kwargs
        )
        index = self.step_index
        assert index is not None
        m0, m1, m2 = model_output_list[-1], model_output_list[-2], model_output_list[-3]
        near, here, back, far = (-torch.log(self.sigmas[index + shift]) for shift in (1, 0, -1, -2))
        h, r0, r1 = near - here, (here - back) / (near - here), (back - far) / (near - here)
        assert h > 0
        second_difference = ((m0 - m1) / r0 - (m1 - m2) / r1) / (r0 + r1)
        alpha, _ = self._sigma_to_alpha_sigma_t(self.sigmas[index + 1])
        return wrong + alpha * second_difference


class CorrectedDEIS(DEISMultistepScheduler):
    """DEIS that ends clean; the parent ends at the grid's first sigma, or repeats its own last one."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """As the parent, but for the last sigma."""
        super().set_timesteps(*args, **kwargs)
        self.sigmas[-1] = NEARLY_CLEAN


class CorrectedSASolver(SASolverScheduler):
    """SA-Solver that ends at a clean picture; the parent ends as DEIS does."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """As the parent, but for the last sigma."""
        super().set_timesteps(*args, **kwargs)
        self.sigmas[-1] = NEARLY_CLEAN


class Swift:
    """The two conversions that diffusers makes number by number, made at once; mixed into every scheduler.

    Some constructors convert a thousand sigmas, which takes them up to 0.9 s and this 0.02 s.
    """

    def _sigma_to_t(self, sigma: Any, log_sigmas: Any) -> Any:
        log_sigma = np.log(np.maximum(np.asarray(sigma), 1e-10))
        return np.interp(log_sigma, np.asarray(log_sigmas), np.arange(len(log_sigmas)))

    def _convert_to_beta(
        self, in_sigmas: Any, num_inference_steps: int, alpha: float = 0.6, beta: float = 0.6
    ) -> Any:
        from scipy.special import betaincinv  # no other spacing waits for it

        quantiles = betaincinv(alpha, beta, 1 - np.linspace(0, 1, num_inference_steps))
        return in_sigmas[-1] + quantiles * (in_sigmas[0] - in_sigmas[-1])
