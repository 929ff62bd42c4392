"""Which noise levels a sampler visits, known without a network, is answered here.

``Scheduler.walk`` is the one place that reads levels off a diffusers scheduler: the panel calls it through
``visited_levels``, the loop in ``sampling`` calls it directly, so what is plotted is what is used.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from modules.diffusion.flow import FlowSchedule, Noise, unit
from modules.diffusion.noise import BETAS, STABLE_DIFFUSION, Levels, NoiseSchedule
from modules.diffusion.samplers import FLOW_SAMPLERS, SAMPLERS, SPACINGS, Sampler, Spacing
from modules.lean import sparing

__all__ = [
    "BETAS",
    "FLOW_SAMPLERS",
    "SAMPLERS",
    "SPACINGS",
    "STABLE_DIFFUSION",
    "FlowSchedule",
    "Levels",
    "Noise",
    "NoiseSchedule",
    "Sampler",
    "Scheduler",
    "Spacing",
    "Walk",
    "check",
    "make_scheduler",
    "rehearsed",
    "samplers_for",
    "spacings_for",
    "training_levels",
    "visited_levels",
]

LEADING_REACHES = 0.1
"""Up to this many steps a training timestep the "leading" spacing starts near the noisy end of the grid."""


def samplers_for(noise_schedule: Noise = STABLE_DIFFUSION) -> dict[str, Sampler]:
    """The samplers that can walk this noise, by name."""
    return FLOW_SAMPLERS if isinstance(noise_schedule, FlowSchedule) else SAMPLERS


def spacings_for(sampler: str, noise_schedule: Noise = STABLE_DIFFUSION) -> list[str]:
    """The names of the spacings that this sampler can walk, the default first."""
    check(sampler, noise_schedule=noise_schedule)
    return list(samplers_for(noise_schedule)[sampler].spacings)


def check(
    sampler: str,
    spacing: str = "default",
    steps: int = 1,
    noise_schedule: Noise = STABLE_DIFFUSION,
    strength: float = 1.0,
) -> None:
    """Raise ValueError, with a sentence to show, unless the sampler can walk the spacing in so many steps."""
    known = samplers_for(noise_schedule)
    if sampler not in known and sampler in SAMPLERS:
        raise ValueError(f"{sampler} cannot walk a flow model's noise; choose one of {', '.join(known)}.")
    if sampler not in known:
        raise ValueError(f"sampler is {sampler!r}, which is unknown; choose one of {', '.join(known)}.")
    if spacing not in SPACINGS:
        raise ValueError(f"schedule is {spacing!r}, which is unknown; choose one of {', '.join(SPACINGS)}.")
    kind = known[sampler]
    if spacing not in kind.spacings:
        raise ValueError(f"{sampler} cannot walk the {spacing} schedule; it has {', '.join(kind.spacings)}.")
    most = min(kind.max_steps, len(noise_schedule))
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most:
        raise ValueError(f"steps is {steps!r}, but {sampler} takes a whole number from 1 to {most}.")
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength!r}; it must be above 0 and at most 1.")
    table = SPACINGS[spacing].table
    if table and abs(np.log(table[0]) - noise_schedule.log_ratio[-1]) > 0.1:
        raise ValueError(f"The {spacing} schedule fits Stable Diffusion's noise only, not this model's.")


def training_levels(noise_schedule: Noise = STABLE_DIFFUSION) -> Levels:
    """Every level of the grid that the network was trained on, timestep 0 first."""
    return noise_schedule.levels()


@lru_cache(maxsize=256)
def visited_levels(
    sampler: str,
    spacing: str,
    steps: int,
    noise_schedule: Noise = STABLE_DIFFUSION,
    strength: float = 1.0,
) -> Levels:
    """The levels of every network call, first call first; ``strength`` below 1 starts late, as image-to-image
    does.

    ``t`` is what the network is told, alpha and sigma what the sample really holds. Raises ValueError as
    ``check``.
    """
    check(sampler, spacing, steps, noise_schedule, strength)
    levels = make_scheduler(sampler, spacing, noise_schedule).walk(steps, strength).levels
    for values in (levels.t, levels.alpha, levels.sigma):
        values.setflags(write=False)
    return levels


def rehearsed(noise_schedule: Noise = STABLE_DIFFUSION) -> Iterator[str]:
    """Walk with every sampler once, a name after each: what a first walk imports is there for the next."""
    for name, sampler in samplers_for(noise_schedule).items():
        visited_levels(name, "beta" if "beta" in sampler.spacings else sampler.spacings[0], 2, noise_schedule)
        yield name


@dataclass(frozen=True, eq=False)
class Walk:
    """One run of a diffusers scheduler, ready to start, with all that is known before the first call.

    ``timesteps``: what ``scheduler.step`` wants to hear at each call. ``levels``: what the network is told
    (t) and what the sample holds (alpha, sigma). ``heard``: the level that the network takes that sample to
    have; different only where the sample is noisier than all it was trained on. ``scales``: the scheduler's
    sample over the variance-preserving one, before each call and after the last. ``hears``: the kind of
    prediction that ``scheduler.step`` takes.
    """

    scheduler: Any
    timesteps: list[Any]
    levels: Levels
    heard: Levels
    scales: np.ndarray
    hears: str = "epsilon"


@dataclass(frozen=True, eq=False)
class Scheduler:
    """A sampler and a spacing over a noise schedule; without state, so one may serve many runs at once."""

    sampler: Sampler
    spacing: Spacing
    noise_schedule: Noise

    def walk(self, steps: int, strength: float = 1.0) -> Walk:
        """A run of so many steps on a new diffusers scheduler, begun late where ``strength`` is below 1."""
        if isinstance(self.noise_schedule, FlowSchedule):
            return flow_walk(self.sampler, self.spacing, self.noise_schedule, steps, strength)
        scheduler = fresh(prototype(self.sampler, self.spacing, self.noise_schedule))
        spread_steps(scheduler, steps)
        scheduler.set_timesteps(steps)
        if self.spacing.table:
            scheduler.sigmas = sigmas_from_table(self.spacing.table, steps, self.sampler.calls_per_step)
        begin = first_call(self.sampler, steps, strength)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)  # its own search by timestep fails where two round to the same
        timesteps, ratios = list(scheduler.timesteps)[begin:], self.sampler.ratios(scheduler)[begin:]
        told = self.noise_schedule.timestep_of(ratios)  # the scheduler's own are rounded in most spacings
        levels = Levels.from_ratio(told, ratios)
        heard = Levels.from_ratio(told, np.minimum(ratios, np.exp(self.noise_schedule.log_ratio[-1])))
        scales = np.append(1 / levels.alpha, 1.0) if self.sampler.exploding else np.ones(len(levels) + 1)
        return Walk(scheduler, timesteps, levels, heard, scales)


def make_scheduler(
    sampler: str, spacing: str = "default", noise_schedule: Noise = STABLE_DIFFUSION
) -> Scheduler:
    """The named sampler and spacing over a noise schedule; raises ValueError where ``check`` refuses."""
    check(sampler, spacing, 1, noise_schedule)
    return Scheduler(samplers_for(noise_schedule)[sampler], SPACINGS[spacing], noise_schedule)


def first_call(sampler: Sampler, steps: int, strength: float) -> int:
    """The network call at which a walk begins that takes the last share of its steps, at least one."""
    return sampler.calls_per_step * (steps - max(1, int(steps * strength + 1e-9)))


def flow_walk(
    sampler: Sampler, spacing: Spacing, flow: FlowSchedule, steps: int, strength: float = 1.0
) -> Walk:
    """A run over a rectified flow, whose scheduler keeps the flow's own sample and hears its velocity."""
    scheduler = fresh(flow_prototype(sampler))
    sigmas = np.minimum(spacing.respace(flow.sigmas(steps)), sampler.highest)
    scheduler.lay(sigmas, sampler.calls_per_step)
    begin = first_call(sampler, steps, strength)
    scheduler.set_begin_index(begin)
    s = scheduler.sigmas.double().numpy()[begin:]
    levels = flow.levels_of(s[:-1])
    return Walk(scheduler, list(scheduler.timesteps)[begin:], levels, levels, unit(s), "flow")


@lru_cache(maxsize=8)
def flow_prototype(sampler: Sampler) -> Any:
    """The diffusers scheduler of a flow sampler, of which every run walks a copy."""
    home, _, name = sampler.scheduler.rpartition(".")
    original = getattr(importlib.import_module(home), name)
    flowing = importlib.import_module("modules.diffusion.flow_solvers").Flowing
    return type(name, (flowing, original), {})(**sampler.config)


@lru_cache(maxsize=128)
def prototype(sampler: Sampler, spacing: Spacing, noise_schedule: NoiseSchedule) -> Any:
    """The diffusers scheduler, configured to take eps, of which every run walks a copy."""
    import torch

    grid = noise_schedule.with_zero_terminal_snr() if spacing.zero_terminal_snr else noise_schedule
    home, _, name = sampler.scheduler.rpartition(".")
    with sparing():
        original = getattr(importlib.import_module(home), name)
    swift = importlib.import_module("modules.diffusion.corrected").Swift
    settings = {**sampler.config, **spacing.config, "trained_betas": grid.betas.tolist()}
    # Some constructors walk as many steps as there are timesteps: they hear of two, and the truth later.
    scheduler = type(name, (swift, original), {})(**settings, num_train_timesteps=2)
    scheduler.register_to_config(num_train_timesteps=len(grid))
    scheduler.alphas_cumprod = torch.from_numpy(grid.alphas_cumprod.copy())
    return scheduler


def fresh(scheduler: Any) -> Any:
    """A copy that walks apart from its original; they share the configuration, which diffusers never changes.

    It holds the grid as a list of numbers, and copying those takes longer than a step of a sampler.
    """
    return copy.deepcopy(scheduler, {id(scheduler.config): scheduler.config})


def spread_steps(scheduler: Any, steps: int) -> None:
    """Put right diffusers' even spacings at the numbers of steps where they miscount.

    At one step they start at the clean end. "leading" strides by a whole number of timesteps, so that 600
    steps over 1000 would start at timestep 600. At as many steps as timesteps "linspace" names some twice. At
    61 steps and others "trailing" makes one step too many, at timestep -1, because 61 * (1000 / 61) < 1000 in
    floating point.
    """
    length, way = scheduler.config.num_train_timesteps, scheduler.config.get("timestep_spacing")
    if way == "leading" and steps > LEADING_REACHES * length:
        way = "linspace"
    if way is not None and steps in (1, length):
        way = "trailing"
    if way == "trailing":
        hairs = (length * (1 + count * sys.float_info.epsilon) for count in itertools.count())
        length = next(hair for hair in hairs if math.ceil(hair / (hair / steps)) == steps)
    config = scheduler.config
    if (way, length) != (config.get("timestep_spacing"), config.num_train_timesteps):  # telling takes 2 ms
        scheduler.register_to_config(timestep_spacing=way, num_train_timesteps=length)


def sigmas_from_table(table: tuple[float, ...], steps: int, calls_per_step: int) -> Any:
    """So many steps along a table of sigmas, log-linear between its entries (Sabour et al. 2024), then 0.

    As a float32 tensor laid out as the scheduler's own: each sigma inside twice where a step makes two calls.
    """
    import torch

    places = np.linspace(0, len(table) - 1, steps + 1)[:-1]
    sigmas = np.exp(np.interp(places, np.arange(len(table)), np.log(table)))
    inner = np.repeat(sigmas[1:], calls_per_step)
    return torch.tensor([sigmas[0], *inner, 0.0], dtype=torch.float32)
