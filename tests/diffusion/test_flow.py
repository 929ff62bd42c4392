"""Rectified flows: the schedule of the stock pipelines, exact ends, and what cannot be walked."""

import json

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from modules.diffusion import conformance
from modules.diffusion.editing import inpainted
from modules.diffusion.exact import Gaussian, denoiser
from modules.diffusion.flow import FlowSchedule, unit
from modules.diffusion.guidance import Prediction
from modules.diffusion.parameterization import noised, to_x0
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import (
    FLOW_SAMPLERS,
    SAMPLERS,
    check,
    make_scheduler,
    spacings_for,
    training_levels,
    visited_levels,
)

FLOW = FlowSchedule.from_config({"shift": 3.0}, full_grid=True)
PAIRS = [(sampler, spacing) for sampler in FLOW_SAMPLERS for spacing in spacings_for(sampler, FLOW)]
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
QWEN = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192,
        "shift_terminal": 0.02}  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2, 7, 28])
@pytest.mark.parametrize(("config", "full_grid", "shift"), [
    ({"shift": 3.0}, True, "by_size"),
    ({"shift": 1.0}, False, "by_size"),
    ({"shift": 6.0}, False, "by_size"),
    (DYNAMIC, True, "by_size"),
    (DYNAMIC, False, "by_size"),
    (DYNAMIC | {"time_shift_type": "linear"}, False, "by_size"),
    (QWEN, False, "by_size"),
    (DYNAMIC | {"shift": 3.0}, False, "by_size_and_steps"),
])  # fmt: skip
def test_steps_are_spread_as_the_stock_pipelines_do(config, full_grid, shift, steps):
    for width, height in ((1024, 1024), (512, 768), (2048, 1024)):
        ours = FlowSchedule.from_config(config, shift, full_grid).at(width, height)
        tokens = width * height // 256
        stock = FlowMatchEulerDiscreteScheduler.from_config(config)
        stated = {name: stock.config[name] for name in
                  ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")}  # fmt: skip
        mu = calculate_shift(tokens, *stated.values())
        if shift == "by_size_and_steps":
            mu = compute_empirical_mu(tokens, steps)
        sigmas = None if full_grid else np.linspace(1.0, 1 / steps, steps)
        if steps == 1 and "shift_terminal" in config:
            continue  # diffusers divides by zero there
        stock.set_timesteps(steps, sigmas=sigmas, mu=mu)
        np.testing.assert_allclose(ours.sigmas(steps), stock.sigmas[:-1], rtol=1e-5)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
def test_other_spacings_are_the_scheduler_s_own(spacing):
    stock = FlowMatchEulerDiscreteScheduler(shift=3.0, **{f"use_{spacing}_sigmas": True})
    stock.set_timesteps(12)
    levels = visited_levels("Euler", spacing, 12, FLOW)
    np.testing.assert_allclose(levels.t, stock.timesteps, rtol=1e-5)


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_levels_recorded_are_the_levels_plotted(sampler, spacing):
    heard = []

    def listening(x, t):
        heard.append((t, x.std().item()))
        return Prediction(eps - x0)

    x0, eps = torch.randn(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    steps = list(sample(listening, make_scheduler(sampler, spacing, FLOW), eps, 9))
    levels = visited_levels(sampler, spacing, 9, FLOW)
    assert len(steps) == len(levels) == (17 if sampler == "Heun" else 9)
    for name in ("t", "alpha", "sigma", "snr"):
        recorded = [getattr(step, name) for step in steps]
        np.testing.assert_allclose(recorded, getattr(levels, name), rtol=1e-6, atol=1e-12)
    assert [t for t, _ in heard] == levels.t.tolist()
    assert all(spread == pytest.approx(1, abs=0.03) for _, spread in heard)  # unit variance, all the way
    json.dumps(levels.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_the_exact_denoiser_s_spread_goes_to_the_truth(sampler, spacing):
    few, many = (conformance.outcome(sampler, spacing, steps, FLOW, draws=64) for steps in (10, 60))
    assert many.error < max(0.6 * few.error, 0.005)
    assert many.error < 0.03


def test_snr_is_that_of_the_flow():
    grid = training_levels(FLOW)
    s = grid.t / 1000
    assert (grid.t[0], grid.t[-1], len(grid)) == (1, 1000, 1000)
    np.testing.assert_allclose(grid.snr, ((1 - s) / s) ** 2, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(grid.alpha**2 + grid.sigma**2, 1, rtol=1e-12)
    assert FLOW.level_at(500) == pytest.approx((0.5**0.5, 0.5**0.5))
    assert unit(0.5) == pytest.approx(0.5**0.5)
    np.testing.assert_allclose(FLOW.timestep_of((grid.sigma / grid.alpha)[:-1]), grid.t[:-1], rtol=1e-9)


def test_euler_takes_the_flow_s_own_steps():
    x0, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def knowing(x, t):
        return Prediction(eps - x0 + 0.1 * x * unit(t / 1000))

    *_, last = sample(knowing, make_scheduler("Euler", "default", FLOW), eps, 5)
    stock = FlowMatchEulerDiscreteScheduler(shift=3.0)
    stock.set_timesteps(5)
    x = eps
    for t in stock.timesteps:
        x = stock.step(eps - x0 + 0.1 * x, t, x, return_dict=False)[0]
    torch.testing.assert_close(last.latents, x, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_inpainting_ends_on_what_is_known(sampler):
    known, noise = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    keeping = inpainted(denoiser(Gaussian(), FLOW), known, mask, noise, FLOW)
    *_, last = sample(keeping, make_scheduler(sampler, "default", FLOW), noise, 8)
    torch.testing.assert_close(last.latents[..., :4], known[..., :4], rtol=0, atol=1e-5)


def test_strength_starts_late_on_the_same_schedule():
    whole, part = (visited_levels("Heun", "default", 10, FLOW, strength) for strength in (1.0, 0.6))
    np.testing.assert_array_equal(part.t, whole.t[8:])


def test_a_step_s_picture_is_what_the_network_had_in_mind():
    x0, eps = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    steps = list(sample(lambda x, t: Prediction(eps - x0), make_scheduler("UniPC", "beta", FLOW), eps, 6))
    for step in steps:
        x = noised(x0, eps, step.alpha, step.sigma)
        torch.testing.assert_close(to_x0("flow", eps - x0, x, step.alpha, step.sigma), x0, rtol=0, atol=1e-5)
        torch.testing.assert_close(step.predicted_x0, x0, rtol=0, atol=2e-3)


def test_pairs_that_cannot_be_are_refused_in_words():
    with pytest.raises(ValueError, match="DDIM cannot walk a flow model's noise; choose one of Euler, Heun"):
        check("DDIM", "default", 5, FLOW)
    with pytest.raises(ValueError, match="Euler cannot walk the ays schedule; it has default, karras"):
        check("Euler", "ays", 5, FLOW)
    with pytest.raises(ValueError, match="is unknown"):
        check("Eulr", "default", 5, FLOW)
    assert set(FLOW_SAMPLERS) <= set(SAMPLERS)
