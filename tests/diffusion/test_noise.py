"""The training grid: its numbers, its names, its way to timesteps and back."""

import json

import numpy as np
import pytest

from modules.diffusion.noise import BETAS, STABLE_DIFFUSION, Levels, NoiseSchedule


def test_half_signal_is_snr_one_and_log_zero():
    grid = NoiseSchedule(np.array([0.9, 0.5, 0.1])).levels()
    assert grid.snr == pytest.approx([9, 1, 1 / 9])
    assert grid.log_snr[1] == pytest.approx(0, abs=1e-15)
    assert grid.alpha[1] == pytest.approx(np.sqrt(0.5))


def test_stable_diffusion_ends_with_a_little_signal_and_zero_terminal_snr_with_none():
    assert STABLE_DIFFUSION.levels().snr[-1] == pytest.approx(0.0047, abs=5e-5)
    assert STABLE_DIFFUSION.levels().snr[0] == pytest.approx(1175.47, rel=1e-5)
    zero = STABLE_DIFFUSION.with_zero_terminal_snr()
    assert zero.alphas_cumprod[-1] == 2.0**-24
    assert zero.alphas_cumprod[0] == pytest.approx(STABLE_DIFFUSION.alphas_cumprod[0], rel=1e-12)


@pytest.mark.parametrize("kind", BETAS)
def test_every_named_schedule_falls_from_picture_to_noise(kind):
    alphas_cumprod = NoiseSchedule.from_betas(kind).alphas_cumprod
    assert len(alphas_cumprod) == 1000
    assert alphas_cumprod[0] > 0.99
    assert alphas_cumprod[-1] < 0.03


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_named_schedules_are_those_of_diffusers(kind):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=kind).alphas_cumprod
    ours = NoiseSchedule.from_betas(kind, 0.00085, 0.012).alphas_cumprod
    np.testing.assert_allclose(ours, theirs.double().numpy(), rtol=2e-5)


def test_a_learned_schedule_is_any_array_of_betas():
    betas = np.array([0.1, 0.2, 0.05])
    np.testing.assert_allclose(NoiseSchedule.from_betas(betas).betas, betas, rtol=1e-12)
    np.testing.assert_allclose(
        np.cumprod(1 - STABLE_DIFFUSION.betas), STABLE_DIFFUSION.alphas_cumprod, rtol=1e-12
    )


def test_a_configuration_names_the_schedule_or_brings_it():
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    assert NoiseSchedule.from_config(config) == STABLE_DIFFUSION
    assert hash(NoiseSchedule.from_config(config)) == hash(STABLE_DIFFUSION)
    assert NoiseSchedule.from_config(config | {"prediction_type": "v_prediction"}) != STABLE_DIFFUSION
    assert len(NoiseSchedule.from_config({"trained_betas": [0.1, 0.2]})) == 2
    stretched = NoiseSchedule.from_config(config | {"rescale_betas_zero_snr": True})
    assert stretched == STABLE_DIFFUSION.with_zero_terminal_snr()


def test_timesteps_and_levels_are_each_others_inverse():
    for t in (0.0, 0.4, 17.25, 500.0, 998.6, 999.0):
        alpha, sigma = STABLE_DIFFUSION.level_at(t)
        assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-15)
        assert STABLE_DIFFUSION.timestep_of(np.array([sigma / alpha]))[0] == pytest.approx(t, abs=1e-9)
    beyond = STABLE_DIFFUSION.timestep_of(np.array([1e-6, 1e6]))
    assert beyond.tolist() == [0, 999]


def test_levels_travel_as_json():
    levels = Levels.from_ratio(np.array([3.0]), np.array([2.0]))
    told = json.loads(json.dumps(levels.to_dict()))
    assert list(told) == ["t", "alpha", "sigma", "snr", "log_snr"]
    assert [told[name][0] for name in told] == pytest.approx([3, 0.2**0.5, 0.8**0.5, 0.25, np.log(0.25)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NoiseSchedule.from_betas("quadratic"), "'quadratic' is unknown; choose one of linear"),
        (lambda: NoiseSchedule(np.array([0.5, 0.6])), "must fall strictly"),
        (lambda: NoiseSchedule(np.array([0.5, np.nan])), "must fall strictly"),
        (lambda: NoiseSchedule(np.array([0.5])), "at least 2"),
        (lambda: NoiseSchedule(np.array([0.5, 0.4]), "noise"), "prediction_type is 'noise'"),
    ],
)
def test_impossible_schedules_are_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()
