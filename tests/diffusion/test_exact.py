"""The worlds with closed-form denoisers agree with calculus and with each other."""

import pytest
import torch

from modules.diffusion.exact import Gaussian, Mixture, consistency_denoiser, denoiser
from modules.diffusion.noise import STABLE_DIFFUSION
from modules.diffusion.parameterization import from_x0, to_x0

ALPHA, SIGMA = 0.6, 0.8
THREE = Mixture(
    means=torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -2.0]], dtype=torch.float64),
    stds=torch.tensor([0.3, 0.5, 0.1], dtype=torch.float64),
    chances=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)


def test_the_score_is_the_gradient_of_the_log_density():
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(THREE.log_joint(x, ALPHA, SIGMA).logsumexp(dim=1).sum(), x)
    score = from_x0("score", THREE.denoise(x, ALPHA, SIGMA), x, ALPHA, SIGMA)
    torch.testing.assert_close(score, slope)


def test_the_best_guess_is_the_mean_of_what_could_have_been():
    draws = 400_000
    random = torch.Generator().manual_seed(1)
    x0 = 0.5 * torch.randn(draws, generator=random) + 0.2
    x = ALPHA * x0 + SIGMA * torch.randn(draws, generator=random)
    near = (x - 0.5).abs() < 0.02
    told = Gaussian(0.5, 0.2).denoise(torch.tensor(0.5), ALPHA, SIGMA)
    assert x0[near].mean().item() == pytest.approx(told.item(), abs=0.02)


def test_a_mixture_of_one_is_a_gaussian_and_of_points_a_finite_set():
    x = torch.randn(5, 1, 2, generator=torch.Generator().manual_seed(2))
    one = Mixture(torch.full((1, 1, 2), 0.2), torch.tensor([0.5]), torch.tensor([1.0]))
    torch.testing.assert_close(one.denoise(x, ALPHA, SIGMA), Gaussian(0.5, 0.2).denoise(x, ALPHA, SIGMA))
    points = Mixture(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.zeros(2), torch.tensor([0.5, 0.5]))
    assert points.denoise(torch.tensor([[0.9, 0.8]]), 1.0, 0.05).tolist() == [[1.0, 1.0]]
    assert points.denoise(torch.tensor([[0.3, -0.3]]), 0.01, 1.0)[0].tolist() == pytest.approx(
        [0, 0], abs=0.02
    )


def test_the_consistency_function_is_the_identity_at_the_end_and_carries_the_spread_there():
    world = Gaussian(0.5, 0.2)
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(world.end_of_path(x, 1.0, 0.0), x)
    assert world.end_of_path(torch.tensor(ALPHA * 0.2), ALPHA, SIGMA).item() == pytest.approx(0.2)
    spread = torch.tensor(ALPHA * 0.2 + world.marginal_std(ALPHA, SIGMA))
    assert world.end_of_path(spread, ALPHA, SIGMA).item() == pytest.approx(0.7)


def test_the_networks_speak_the_schedules_language():
    alpha, sigma = STABLE_DIFFUSION.level_at(321.5)
    x, world = torch.linspace(-2, 2, 9), Gaussian()
    x0 = to_x0("epsilon", denoiser(world)(x, 321.5).value, x, alpha, sigma)
    torch.testing.assert_close(x0, world.denoise(x, alpha, sigma))
    end = to_x0("epsilon", consistency_denoiser(world)(x, 321.5).value, x, alpha, sigma)
    torch.testing.assert_close(end, world.end_of_path(x, alpha, sigma))
