"""The samplers and spacings that users know by name live here, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modules.diffusion import flow

Array = np.ndarray
FAMILY = ("default", "trailing", "karras", "exponential", "beta")


def grid_ratios(scheduler: Any) -> Array:
    """sigma / alpha of schedulers that walk the training grid: DDPM, DDIM, PNDM, LCM, TCD."""
    alphas_cumprod = scheduler.alphas_cumprod[scheduler.timesteps].double().numpy()
    return np.sqrt((1 - alphas_cumprod) / alphas_cumprod)


def listed_ratios(scheduler: Any) -> Array:
    """sigma / alpha of schedulers that list one sigma for every network call (Heun's list is interleaved)."""
    return scheduler.sigmas.double().numpy()[: len(scheduler.timesteps)]


def interpolated_ratios(scheduler: Any) -> Array:
    """DPM2: every other call sits at the sigma between two steps."""
    ratios = listed_ratios(scheduler).copy()
    ratios[1::2] = scheduler.sigmas_interpol.double().numpy()[1 : len(ratios) : 2]
    return ratios


def ancestral_interpolated_ratios(scheduler: Any) -> Array:
    """DPM2 a: as DPM2, but its list of sigmas between is one place late."""
    ratios = listed_ratios(scheduler).copy()
    ratios[1::2] = scheduler.sigmas_interpol.double().numpy()[0 : len(ratios) - 1 : 2]
    return ratios


def midpoint_ratios(scheduler: Any) -> Array:
    """DPM++ SDE: every other call sits half-way between two steps in log sigma."""
    ratios = listed_ratios(scheduler).copy()
    ratios[1::2] = np.sqrt(ratios[0:-1:2] * ratios[1::2])
    return ratios


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """One sampler: which scheduler class walks, with what settings, and where its network calls sit.

    ``scheduler``: where its class is found, imported on first use, so that names and notes cost no torch.
    ``ratios``: reads sigma / alpha at every network call off the scheduler, once its timesteps are set.
    ``exploding``: the scheduler keeps x / alpha, whose variance explodes, instead of x.
    ``stochastic``: it adds fresh noise between calls. ``calls_per_step``: 2 means 2n - 1 calls for n steps;
    ``extra_calls`` are made on top of those for more than one step. ``distilled``: it expects a
    consistency-distilled network, not a plain denoiser. ``highest``: the largest level, of a flow's s from 1
    to 0, at which it can start.
    """

    scheduler: str
    note: str
    spacings: tuple[str, ...]
    ratios: Callable[[Any], Array] = listed_ratios
    config: Mapping[str, Any] = field(default_factory=dict)
    exploding: bool = False
    stochastic: bool = False
    calls_per_step: int = 1
    extra_calls: int = 0
    max_steps: int = 1000
    distilled: bool = False
    highest: float = 1.0

    def calls(self, steps: int) -> int:
        """How many network calls so many steps take."""
        return self.calls_per_step * (steps - 1) + 1 + (self.extra_calls if steps > 1 else 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spacing:
    """One way of spreading the steps over the noise levels, as settings of a scheduler.

    ``respace``: the same for the levels of a flow, which no scheduler needs to know.
    """

    note: str
    config: Mapping[str, Any] = field(default_factory=dict)
    zero_terminal_snr: bool = False
    table: tuple[float, ...] = ()
    respace: Callable[[Array], Array] = flow.as_it_is


SPACINGS: dict[str, Spacing] = {
    "default": Spacing(note="Even in timesteps, as the sampler's authors chose."),
    "trailing": Spacing(
        note="Even in timesteps, from the very last one (SGM uniform).",
        config={"timestep_spacing": "trailing"},
    ),
    "karras": Spacing(
        note="Even in sigma ** (1/7): dense where detail forms.",
        config={"use_karras_sigmas": True},
        respace=flow.karras,
    ),
    "exponential": Spacing(
        note="Even in log sigma.", config={"use_exponential_sigmas": True}, respace=flow.exponential
    ),
    "beta": Spacing(
        note="Dense at both ends, by a beta distribution.",
        config={"use_beta_sigmas": True},
        respace=flow.beta,
    ),
    "lu": Spacing(note="Even in log-SNR, as DPM-Solver's authors propose.", config={"use_lu_lambdas": True}),
    "ays": Spacing(
        note="Align Your Steps: levels optimised for Stable Diffusion's schedule.",
        table=(14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    ),
    "zero_snr": Spacing(
        note="From pure noise: zero signal at the first level.",
        config={"timestep_spacing": "trailing"},
        zero_terminal_snr=True,
    ),
}

SAMPLERS: dict[str, Sampler] = {
    "DDPM": Sampler(
        scheduler="diffusers.DDPMScheduler",
        note="The original: fresh noise at every step, best with hundreds of them.",
        config={"clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1},
        ratios=grid_ratios,
        spacings=("default", "trailing", "zero_snr"),
        stochastic=True,
    ),
    "DDIM": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedDDIM",
        note="DDPM's marginals without the noise: one seed, one picture.",
        config={"clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1},
        ratios=grid_ratios,
        spacings=("default", "trailing", "zero_snr"),
    ),
    "PNDM": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedPNDM",
        note="DDIM with a memory of four predictions; one call more than steps.",
        config={"skip_prk_steps": True, "timestep_spacing": "leading", "steps_offset": 1},
        ratios=grid_ratios,
        spacings=("default", "trailing"),
        extra_calls=1,
    ),
    "LMS": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedLMS",
        note="Linear multistep of order four in sigma.",
        spacings=FAMILY,
        exploding=True,
    ),
    "Euler": Sampler(
        scheduler="diffusers.EulerDiscreteScheduler",
        note="The plainest solver: straight lines between levels.",
        spacings=(*FAMILY, "ays", "zero_snr"),
        exploding=True,
    ),
    "Euler a": Sampler(
        scheduler="diffusers.EulerAncestralDiscreteScheduler",
        note="Euler with fresh noise; it keeps changing as steps grow.",
        spacings=("default", "trailing", "zero_snr"),
        exploding=True,
        stochastic=True,
    ),
    "Heun": Sampler(
        scheduler="diffusers.HeunDiscreteScheduler",
        note="Second order; two network calls a step.",
        spacings=(*FAMILY, "ays"),
        exploding=True,
        calls_per_step=2,
    ),
    "DPM2": Sampler(
        scheduler="diffusers.KDPM2DiscreteScheduler",
        note="Second order through a midpoint; two network calls a step.",
        ratios=interpolated_ratios,
        spacings=FAMILY,
        exploding=True,
        calls_per_step=2,
    ),
    "DPM2 a": Sampler(
        scheduler="diffusers.KDPM2AncestralDiscreteScheduler",
        note="DPM2 with fresh noise.",
        ratios=ancestral_interpolated_ratios,
        spacings=FAMILY,
        exploding=True,
        stochastic=True,
        calls_per_step=2,
    ),
    "DPM++ 2M": Sampler(
        scheduler="diffusers.DPMSolverMultistepScheduler",
        note="Second order from one call a step: a good first choice at 15 to 30.",
        config={"algorithm_type": "dpmsolver++", "solver_order": 2},
        spacings=(*FAMILY, "lu", "ays", "zero_snr"),
    ),
    "DPM++ 2M SDE": Sampler(
        scheduler="diffusers.DPMSolverMultistepScheduler",
        note="DPM++ 2M with fresh noise.",
        config={"algorithm_type": "sde-dpmsolver++", "solver_order": 2},
        spacings=(*FAMILY, "lu", "ays", "zero_snr"),
        stochastic=True,
    ),
    "DPM++ 3M SDE": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedDPM3MSDE",
        note="Third order with fresh noise, diffusers' sign error put right.",
        config={"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
        spacings=(*FAMILY, "lu", "ays", "zero_snr"),
        stochastic=True,
    ),
    "DPM++ SDE": Sampler(
        scheduler="modules.diffusion.brownian.CorrectedDPMSDE",
        note="Second order through a midpoint, with fresh noise; two network calls a step.",
        ratios=midpoint_ratios,
        spacings=FAMILY,
        exploding=True,
        stochastic=True,
        calls_per_step=2,
    ),
    "DPM++ 2S": Sampler(
        scheduler="diffusers.DPMSolverSinglestepScheduler",
        note="Second order in pairs of calls, no memory across pairs.",
        config={"algorithm_type": "dpmsolver++", "solver_order": 2, "lower_order_final": True},
        spacings=("default", "karras", "exponential", "beta", "ays"),
        max_steps=999,
    ),
    "UniPC": Sampler(
        scheduler="diffusers.UniPCMultistepScheduler",
        note="Predictor and corrector of second order for one call a step; good at 5 to 15.",
        spacings=(*FAMILY, "ays", "zero_snr"),
    ),
    "DEIS": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedDEIS",
        note="Exponential integrator with a memory of two predictions.",
        spacings=FAMILY,
    ),
    "SA-Solver": Sampler(
        scheduler="modules.diffusion.corrected.CorrectedSASolver",
        note="Stochastic Adams: noise in the middle of the walk only.",
        spacings=FAMILY,
        stochastic=True,
    ),
    "LCM": Sampler(
        scheduler="diffusers.LCMScheduler",
        note="For consistency-distilled networks: 1 to 8 steps.",
        ratios=grid_ratios,
        spacings=("default", "zero_snr"),
        stochastic=True,
        max_steps=50,
        distilled=True,
    ),
    "TCD": Sampler(
        scheduler="diffusers.TCDScheduler",
        note="For trajectory-consistency-distilled networks: 1 to 8 steps.",
        ratios=grid_ratios,
        spacings=("default", "zero_snr"),
        stochastic=True,
        max_steps=50,
        distilled=True,
    ),
}

FLOW_FAMILY = ("default", "karras", "exponential", "beta")

FLOW_SAMPLERS: dict[str, Sampler] = {
    "Euler": Sampler(
        scheduler="diffusers.FlowMatchEulerDiscreteScheduler",
        note="Straight lines between levels, which flows are trained to make nearly straight.",
        spacings=FLOW_FAMILY,
    ),
    "Heun": Sampler(
        scheduler="diffusers.FlowMatchHeunDiscreteScheduler",
        note="Second order; two network calls a step.",
        spacings=FLOW_FAMILY,
        calls_per_step=2,
    ),
    "DPM++ 2M": Sampler(
        scheduler="diffusers.DPMSolverMultistepScheduler",
        note="Second order from one call a step.",
        config={"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 2},
        spacings=FLOW_FAMILY,
        highest=1 - 1e-6,
    ),
    "UniPC": Sampler(
        scheduler="diffusers.UniPCMultistepScheduler",
        note="Predictor and corrector of second order for one call a step.",
        config={"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
        spacings=FLOW_FAMILY,
        highest=1 - 1e-6,
    ),
}
"""What walks a rectified flow, by the names that the same solvers have above."""
