"""The theory that the page shows, row by row, each statement pinned with a number or an identity."""

import numpy as np
import pytest
import torch

from modules.diffusion.conformance import even_normals
from modules.diffusion.exact import Gaussian, Mixture, consistency_denoiser, denoiser
from modules.diffusion.guidance import classifier_guided, guided
from modules.diffusion.noise import BETAS, STABLE_DIFFUSION, NoiseSchedule
from modules.diffusion.parameterization import convert, from_x0, noised, to_x0
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import make_scheduler, visited_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS of diffusers


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_row_1_forward_steps_compose_to_any_level_at_once():
    mean, variance = 1.0, 0.0
    for beta, alphas_cumprod in zip(STABLE_DIFFUSION.betas, STABLE_DIFFUSION.alphas_cumprod, strict=True):
        mean, variance = mean * (1 - beta) ** 0.5, variance * (1 - beta) + beta
        assert mean == pytest.approx(alphas_cumprod**0.5, abs=1e-12)
        assert variance == pytest.approx(1 - alphas_cumprod, abs=1e-12)


def test_row_2_any_level_at_once():
    assert noised(2, -0.5, 0.81**0.5, (1 - 0.81) ** 0.5) == pytest.approx(1.582055, abs=1e-6)


def test_row_3_stable_diffusion_does_not_quite_reach_noise():
    assert STABLE_DIFFUSION.levels().snr[-1] == pytest.approx(0.0047, abs=5e-5)
    assert STABLE_DIFFUSION.with_zero_terminal_snr().levels().snr[-1] == pytest.approx(2.0**-24, rel=1e-6)


@pytest.mark.parametrize("kind", BETAS)
def test_row_4_snr_falls_in_t(kind):
    levels = NoiseSchedule.from_betas(kind).levels()
    assert (np.diff(levels.snr) < 0).all()
    np.testing.assert_allclose(levels.snr, np.exp(levels.log_snr), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("linear", 0.508),
        ("scaled_linear", 0.599),
        ("cosine", 0.615),
        ("sigmoid", 0.547),
        ("logarithmic", 0.708),
    ],
)
def test_row_5_schedules_differ_in_where_they_spend_their_steps(kind, share):
    snr = NoiseSchedule.from_betas(kind).levels().snr
    assert ((snr > 0.1) & (snr < 10)).mean() == pytest.approx(share, abs=1e-9)


def test_row_6_the_posterior_is_that_of_a_sampled_joint():
    before, after, x0, draws = 0.6, 0.5, 0.8, 200_000
    beta = 1 - after / before
    z = torch.randn(2, draws, generator=seeded(0), dtype=torch.float64)
    earlier = noised(x0, z[0], before**0.5, (1 - before) ** 0.5)
    later = (1 - beta) ** 0.5 * earlier + beta**0.5 * z[1]
    slope = torch.cov(torch.stack([earlier, later]))[0, 1] / later.var()
    spread = (earlier - slope * later).var().item()
    mean = (earlier.mean() + slope * (0.7 - later.mean())).item()
    stepped = ddpm_step(before, after, 0.7, from_x0("epsilon", x0, 0.7, after**0.5, (1 - after) ** 0.5))
    assert stepped == (pytest.approx(mean, abs=3e-3), pytest.approx(spread, rel=0.01))
    assert spread == pytest.approx(beta * (1 - before) / (1 - after), rel=0.01)


def ddpm_step(before: float, after: float, x: float, eps: float) -> tuple[float, float]:
    """(mean, variance) of the sample one step earlier, as the DDPM sampler draws it."""
    walk = make_scheduler("DDPM", "default", NoiseSchedule(np.array([before, after]))).walk(2)
    sample, said = torch.full((2, 1), x, dtype=torch.float64), torch.full((2, 1), eps, dtype=torch.float64)
    z = torch.randn(2, 1, generator=seeded(5), dtype=torch.float64)
    drawn = walk.scheduler.step(said, walk.timesteps[0], sample, generator=seeded(5)).prev_sample
    spread = ((drawn[0] - drawn[1]) / (z[0] - z[1])).item()
    return (drawn[0] - spread * z[0]).item(), spread**2


def test_row_7_the_reverse_mean():
    mean, _ = ddpm_step(0.5 / 0.9, 0.5, 0.7, 0.2)
    assert mean == pytest.approx(0.7081, abs=5e-5)
    assert mean == pytest.approx((0.7 - 0.1 / 0.5**0.5 * 0.2) / 0.9**0.5, rel=1e-6)


def test_row_8_the_reverse_variance_lies_between_two_limits():
    """It is the smaller one when x_0 is a point and beta when x_0 has unit spread; DDPM takes the smaller."""
    before, after = 0.6, 0.5
    alpha, beta = after / before, 1 - after / before
    smaller = beta * (1 - before) / (1 - after)

    def spread_given_next(std: float) -> float:
        prior = before * std**2 + 1 - before
        return prior - alpha * prior**2 / (alpha * prior + beta)

    assert spread_given_next(0.0) == pytest.approx(smaller)
    assert spread_given_next(1.0) == pytest.approx(beta)
    assert smaller < spread_given_next(0.5) < beta
    assert ddpm_step(before, after, 0.7, 0.2)[1] == pytest.approx(smaller)
    ends = []
    for seed in (1, 2):
        walk = make_scheduler("DDPM").walk(10)
        x = torch.ones(1, 1, 2, 2)
        ends.append(walk.scheduler.step(x, walk.timesteps[-2], x, generator=seeded(seed)).prev_sample)
        ends.append(walk.scheduler.step(x, walk.timesteps[-1], x, generator=seeded(seed)).prev_sample)
    assert not torch.equal(ends[0], ends[2])
    torch.testing.assert_close(ends[1], ends[3], rtol=0, atol=1e-8, msg="no noise at the last step")


def test_row_9_the_clean_picture_behind_a_prediction():
    x, eps = torch.tensor([1.2, -0.3]), torch.tensor([0.5, -1.0])
    assert to_x0("epsilon", eps, x, 0.6, 0.8).tolist() == pytest.approx([1.3333, 0.8333], abs=1e-4)


def test_row_10_v_is_the_derivative_along_the_circle():
    x0, eps, angle, small = 0.7, -1.3, 0.4, 1e-6
    at = [noised(x0, eps, np.cos(angle + shift), np.sin(angle + shift)) for shift in (-small, 0, small)]
    v = from_x0("v_prediction", x0, at[1], np.cos(angle), np.sin(angle))
    assert (at[2] - at[0]) / (2 * small) == pytest.approx(v, rel=1e-8)


def test_row_11_the_score_is_minus_eps_over_sigma():
    assert convert(0.6, 1.0, 0.6, 0.8, "epsilon", "score") == pytest.approx(-0.6 / 0.8)


def test_row_12_losses_on_eps_and_x0_differ_by_the_snr():
    alpha, sigma = STABLE_DIFFUSION.level_at(300)
    x, said, truth = torch.randn(3, 1000, generator=seeded(0), dtype=torch.float64).unbind()
    in_eps = (said - truth).square().mean()
    in_x0 = (
        (to_x0("epsilon", said, x, alpha, sigma) - to_x0("epsilon", truth, x, alpha, sigma)).square().mean()
    )
    assert (in_eps / in_x0).item() == pytest.approx((alpha / sigma) ** 2)


def test_row_13_no_network_beats_the_conditional_mean():
    world, alpha, sigma = Gaussian(), 0.6, 0.8
    x0 = 0.5 * torch.randn(200_000, generator=seeded(1))
    eps = torch.randn(200_000, generator=seeded(2))
    x = noised(x0, eps, alpha, sigma)
    best = from_x0("epsilon", world.denoise(x, alpha, sigma), x, alpha, sigma)
    least = (best - eps).square().mean()
    for other in (best * 1.02, best * 0.98, best + 0.03):
        assert (other - eps).square().mean() > least


@pytest.mark.parametrize("sampler", ["Heun", "DPM++ 3M SDE"])
def test_row_14_the_ode_and_the_sde_share_their_marginals(sampler):
    world, scheduler = Gaussian(), make_scheduler(sampler, "karras")
    levels = visited_levels(sampler, "karras", 100)
    start = even_normals(4096) * world.marginal_std(*levels.at(0)[1:])
    steps = list(sample(denoiser(world), scheduler, start, 100, generators=[seeded(0)]))
    for index in range(1, len(levels), 7):
        spread = steps[index - 1].latents.std().item()
        assert spread == pytest.approx(world.marginal_std(*levels.at(index)[1:]), rel=0.04)


def test_row_15_ddim_is_deterministic_and_with_eta_one_has_ddpms_variance():
    from diffusers import DDIMScheduler, DDPMScheduler

    start = torch.randn(1, 1, 4, 4, generator=seeded(0))
    ends = [
        list(sample(denoiser(Gaussian()), make_scheduler("DDIM"), start, 10, generators=[seeded(seed)]))[-1]
        for seed in (1, 2)
    ]
    assert torch.equal(ends[0].latents, ends[1].latents)
    ddim, ddpm = DDIMScheduler(), DDPMScheduler()
    for scheduler in (ddim, ddpm):
        scheduler.set_timesteps(10)
    assert ddim._get_variance(500, 400) == pytest.approx(ddpm._get_variance(500).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [("Euler", 1), ("Heun", 2), ("DPM2", 2), ("DPM++ 2M", 2), ("DEIS", 2), ("UniPC", 3), ("LMS", 4)],
)
def test_row_16_error_falls_with_the_order_of_the_solver(sampler, order):
    """Measured at the last level before the clean end, where the truth is known and the spacing fixed."""
    world, errors, numbers = Gaussian(), [], (30, 60)
    for steps in numbers:
        levels = visited_levels(sampler, "exponential", steps)
        start = torch.full((1, 1, 1, 1), world.marginal_std(*levels.at(0)[1:]), dtype=torch.float64)
        walked = list(sample(denoiser(world), make_scheduler(sampler, "exponential"), start, steps))
        truth = world.marginal_std(*levels.at(-1)[1:])
        errors.append(abs(walked[-2].latents.item() - truth))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)


def test_row_17_and_18_guidance_is_arithmetic():
    x = torch.zeros(1, 1, 1, 1)

    def network(x, t, conditions):
        return torch.cat([torch.full_like(x[:1], number) for number in conditions])

    value = guided(network, 0.5, [(2.0, 7.5)])(x, 1.0).value.item()
    assert value == pytest.approx(0.5 + 7.5 * (2.0 - 0.5))
    assert value == pytest.approx((1 + 6.5) * 2.0 - 6.5 * 0.5)
    several = guided(network, -1.0, [(2.0, 3.0), (0.0, 2.0)])(x, 1.0).value.item()
    assert several == pytest.approx(-1 + 3 * (2 + 1) + 2 * (0 + 1))


def test_row_19_a_perfect_classifier_turns_the_unconditional_network_into_the_conditional_one():
    def part(*which: int) -> Mixture:
        means = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.0, -1.5]], dtype=torch.float64)
        stds, chances = torch.tensor([0.4, 0.3, 0.6]).double(), torch.tensor([0.5, 0.3, 0.2]).double()
        rows = list(which)
        return Mixture(means[rows], stds[rows], chances[rows] / chances[rows].sum())

    everything, wanted = part(0, 1, 2), part(0, 2)

    def gradient(x: torch.Tensor, t: float) -> torch.Tensor:
        x = x.detach().requires_grad_()
        log_chances = everything.log_joint(x, *STABLE_DIFFUSION.level_at(t)).log_softmax(dim=1)
        return torch.autograd.grad(log_chances[:, [0, 2]].logsumexp(dim=1).sum(), x)[0]

    x = torch.randn(50, 2, generator=seeded(3), dtype=torch.float64)
    steered = classifier_guided(denoiser(everything), gradient, 1.0, STABLE_DIFFUSION)
    for t in (50.0, 400.0, 900.0):
        torch.testing.assert_close(steered(x, t).value, denoiser(wanted)(x, t).value)


def test_row_24_a_consistency_function_maps_the_whole_path_to_its_end():
    world, path = Gaussian(), []
    start = torch.randn(1, 1, 4, 4, generator=seeded(0))
    scheduler, levels = make_scheduler("Heun", "karras"), visited_levels("Heun", "karras", 100)
    for step in sample(denoiser(world), scheduler, start, 100):
        if step.index % 20 == 19:
            path.append(world.end_of_path(step.latents, *levels.at(step.index + 1)[1:]))
    for end in path:
        torch.testing.assert_close(end, path[0], rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(world.end_of_path(start, 1.0, 0.0), start)
    lcm = make_scheduler("LCM").walk(4).scheduler
    assert lcm.get_scalings_for_boundary_condition_discrete(0) == (1.0, 0.0)
    for steps in (1, 4):
        noise, walker = even_normals(4096), make_scheduler("LCM")
        *_, last = sample(consistency_denoiser(world), walker, noise, steps, generators=[seeded(1)])
        assert last.latents.std().item() == pytest.approx(0.5, rel=0.03)
