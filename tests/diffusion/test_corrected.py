"""Each correction: the mistake is still there in diffusers, and is not here."""

import copy

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)

from modules.diffusion.conformance import outcome
from modules.diffusion.exact import Gaussian, denoiser
from modules.diffusion.noise import STABLE_DIFFUSION
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import make_scheduler, visited_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS of diffusers
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def as_diffusers_would(scheduler, x, steps):
    """The plain loop over an unmodified scheduler, with the exact Gaussian denoiser."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        eps = denoiser(Gaussian())(scheduler.scale_model_input(x, t), float(t)).value
        x = scheduler.step(eps, t, x).prev_sample
    return x


def ours(sampler, x, steps, spacing="default", **settings):
    *_, last = sample(denoiser(Gaussian()), make_scheduler(sampler, spacing), x, steps, **settings)
    return last.latents


def test_dpm_3m_sde_has_the_sign_right():
    torch.manual_seed(0)
    theirs = DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++", solver_order=3)
    assert as_diffusers_would(theirs, torch.randn(1, 1, 64, 64), 200).std() > 0.58
    assert outcome("DPM++ 3M SDE", "default", 200, draws=4096).std == pytest.approx(0.5, abs=0.02)


def test_trailing_makes_as_many_steps_as_asked():
    theirs = EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    theirs.set_timesteps(61)
    assert len(theirs.timesteps) == 62
    assert theirs.timesteps[-1] == -1
    for steps in (*range(59, 64), 103, 121, 122, 241, 244, 482, 487, 757, 964, 973, 1000):
        ddim = make_scheduler("DDIM", "trailing").walk(steps).levels.t
        assert len(ddim) == steps
        np.testing.assert_allclose(ddim, 999 - np.arange(steps) * 1000 / steps, atol=0.5 + 1e-6)


def test_a_single_step_starts_from_noise():
    theirs = EulerDiscreteScheduler(**BETAS)
    theirs.set_timesteps(1)
    assert theirs.timesteps.tolist() == [0]
    assert visited_levels("Euler", "default", 1).t.tolist() == [999]


def test_leading_reaches_the_noise_at_hundreds_of_steps():
    theirs = DDIMScheduler(**BETAS, steps_offset=1)
    theirs.set_timesteps(600)
    assert theirs.timesteps[0] == 600
    assert visited_levels("DDIM", "default", 600).t[0] == 999
    assert visited_levels("DDPM", "default", 1000).t.tolist() == list(range(999, -1, -1))


def test_ddim_steps_to_the_next_timestep_of_its_list():
    x = torch.randn(1, 1, 8, 8, generator=seeded(0)[0])
    theirs = DDIMScheduler(**BETAS, clip_sample=False, steps_offset=1)
    torch.testing.assert_close(ours("DDIM", x, 20), as_diffusers_would(theirs, x, 20), rtol=1e-5, atol=1e-5)
    uneven = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    error = (ours("DDIM", x, 600, "trailing") - as_diffusers_would(uneven, x, 600)).abs().max()
    assert error > 0.01, "600 does not divide 1000: diffusers strides by 1 where its list strides by 1.67"


def test_pndm_is_that_of_diffusers_where_that_is_right():
    x = torch.randn(1, 1, 8, 8, generator=seeded(0)[0])
    theirs = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1)
    torch.testing.assert_close(ours("PNDM", x, 20), as_diffusers_would(theirs, x, 20), rtol=1e-5, atol=1e-4)
    late = visited_levels("PNDM", "default", 20, strength=0.5)
    assert late.t[:4].tolist() == [451, 401, 401, 351]


def test_lms_integrates_its_polynomials_exactly_and_starts_late():
    scheduler = make_scheduler("LMS", "karras").walk(12).scheduler
    theirs = LMSDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    theirs.set_timesteps(12)
    for order in (1, 2, 3, 4):
        for index in range(order):
            quadrature = theirs.get_lms_coefficient(order, 5, index)
            assert scheduler.get_lms_coefficient(order, 5, index) == pytest.approx(
                float(quadrature), rel=1e-3
            )
    world, half = Gaussian(), visited_levels("LMS", "karras", 30, strength=0.5)
    _, alpha, sigma = half.at(0)
    start = torch.full((1, 1, 2, 2), world.marginal_std(alpha, sigma))
    assert ours("LMS", start, 30, "karras", strength=0.5).mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("spacing", ["default", "karras"])
def test_deis_and_sa_solver_end_clean(spacing):
    theirs = DEISMultistepScheduler(**BETAS, use_karras_sigmas=spacing == "karras")
    theirs.set_timesteps(10)
    assert theirs.sigmas[-1] > 0.029
    for sampler in ("DEIS", "SA-Solver"):
        assert make_scheduler(sampler, spacing).walk(10).scheduler.sigmas[-1] == pytest.approx(1e-4)
        assert ours(sampler, torch.ones(1, 1, 2, 2), 1, spacing, generators=seeded(0)).abs().max() < 0.1


def test_the_swift_conversions_are_those_of_diffusers():
    theirs = KDPM2DiscreteScheduler(**BETAS, use_beta_sigmas=True)
    theirs.set_timesteps(40)
    walked = make_scheduler("DPM2", "beta").walk(40).scheduler
    np.testing.assert_allclose(walked.sigmas, theirs.sigmas, rtol=2e-5)
    np.testing.assert_allclose(walked.timesteps, theirs.timesteps, rtol=1e-4, atol=2e-3)


def test_rounded_timesteps_find_their_place():
    crowded = DPMSolverMultistepScheduler(**BETAS, use_beta_sigmas=True)
    with pytest.raises(IndexError):
        as_diffusers_would(crowded, torch.zeros(1, 1, 2, 2), 40)
    assert torch.isfinite(ours("DPM++ 2M", torch.ones(1, 1, 2, 2), 40, "beta")).all()


def test_brownian_noise_is_one_path_at_every_number_of_steps():
    paths = []
    for steps in (10, 40):
        scheduler = copy.deepcopy(make_scheduler("DPM++ SDE", "karras").walk(steps).scheduler)
        assert isinstance(scheduler, DPMSolverSDEScheduler)
        motion = scheduler.brownian(torch.zeros(2, 1, 3, 3), seeded(1, 2))
        paths.append(motion(torch.tensor(10.0), torch.tensor(2.0)))
    torch.testing.assert_close(*paths, rtol=0, atol=1e-2)
    assert (paths[0][0] - paths[0][1]).abs().max() > 0.1
    assert STABLE_DIFFUSION.log_ratio[-1] > np.log(10.0)
