"""The loop: it uses the levels it plots, agrees with diffusers, repeats itself, and lets go."""

import weakref

import numpy as np
import pytest
import torch

from modules.diffusion.exact import Gaussian, denoiser
from modules.diffusion.guidance import Prediction, guided
from modules.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule
from modules.diffusion.parameterization import noised
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import SAMPLERS, make_scheduler, spacings_for, visited_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS of diffusers
PAIRS = [(sampler, spacing) for sampler in SAMPLERS for spacing in spacings_for(sampler)]
DETERMINISTIC = [pair for pair in PAIRS if not SAMPLERS[pair[0]].stochastic]
STOCHASTIC = [pair for pair in PAIRS if SAMPLERS[pair[0]].stochastic]
STEPS = 9


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def unit_noise(generators: list[torch.Generator], *shape: int) -> torch.Tensor:
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def walk(sampler, spacing, denoise, start, steps=STEPS, noise_schedule=STABLE_DIFFUSION, **settings):
    return list(sample(denoise, make_scheduler(sampler, spacing, noise_schedule), start, steps, **settings))


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_levels_recorded_are_the_levels_plotted(sampler, spacing):
    heard = []

    def listening(x, t):
        heard.append(t)
        return denoiser(Gaussian())(x, t)

    generators = seeded(0)
    steps = walk(sampler, spacing, listening, unit_noise(generators, 1, 2, 2), generators=generators)
    levels = visited_levels(sampler, spacing, STEPS)
    assert [step.index for step in steps] == list(range(len(levels)))
    assert {step.total for step in steps} == {len(levels)}
    for name in ("t", "alpha", "sigma", "snr"):
        recorded = np.array([getattr(step, name) for step in steps])
        np.testing.assert_allclose(recorded, getattr(levels, name), rtol=1e-6, atol=1e-12)
    assert heard == [step.t for step in steps]
    assert all(torch.isfinite(step.latents).all() for step in steps)


@pytest.mark.parametrize(("sampler", "spacing"), DETERMINISTIC)
def test_a_network_that_knows_the_noise_is_led_along_it_through_every_level(sampler, spacing):
    """The recorded levels are the sample's own: with x_0 and eps known, x is theirs at each level."""
    x0, eps = unit_noise(seeded(1, 2), 1, 8, 8).double()[:, None].unbind()
    levels = visited_levels(sampler, spacing, STEPS)
    start = noised(x0, eps, *levels.at(0)[1:])
    knowing = NoiseSchedule(STABLE_DIFFUSION.alphas_cumprod, "sample")
    steps = walk(sampler, spacing, lambda x, t: Prediction(x0), start, noise_schedule=knowing)
    for step, index in zip(steps, range(1, len(levels)), strict=False):
        expected = noised(x0, eps, *levels.at(index)[1:])
        torch.testing.assert_close(step.latents.double(), expected, rtol=0, atol=2e-3 if index == 1 else 2e-4)
    last = {"PNDM": 0.03}.get(sampler, 2e-4)
    torch.testing.assert_close(steps[-1].latents.double(), x0, rtol=0, atol=last * eps.abs().max().item())
    assert all(torch.equal(step.predicted_x0, x0) for step in steps)


@pytest.mark.parametrize(("sampler", "spacing"), STOCHASTIC)
def test_a_network_that_knows_the_picture_leaves_the_recorded_noise_on_it(sampler, spacing):
    """As above for samplers that renew the noise: what lies on x_0 has the next level's spread."""
    generators = seeded(3)
    start = unit_noise(generators, 1, 64, 64)
    levels = visited_levels(sampler, spacing, STEPS)
    knowing = NoiseSchedule(STABLE_DIFFUSION.alphas_cumprod, "sample")
    x0 = torch.full_like(start, 0.7)
    start = noised(x0, start, *levels.at(0)[1:])
    steps = walk(
        sampler, spacing, lambda x, t: Prediction(x0), start, noise_schedule=knowing, generators=generators
    )
    for step, index in zip(steps, range(1, len(levels)), strict=False):
        _, alpha, sigma = levels.at(index)
        assert (step.latents - alpha * x0).std().item() == pytest.approx(sigma, rel=0.05)
    assert (steps[-1].latents - x0).abs().max().item() < (0.2 if sampler in ("TCD",) else 2e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_of_four_is_four_singles(sampler):
    together = seeded(1, 2, 3, 4)
    batch = walk(
        sampler, "default", denoiser(Gaussian()), unit_noise(together, 2, 3, 3), 5, generators=together
    )
    for index in range(4):
        alone = seeded(index + 1)
        single = walk(
            sampler, "default", denoiser(Gaussian()), unit_noise(alone, 2, 3, 3), 5, generators=alone
        )
        torch.testing.assert_close(batch[-1].latents[index], single[-1].latents[0], rtol=0, atol=1e-6)
    again = seeded(1, 2, 3, 4)
    repeat = walk(sampler, "default", denoiser(Gaussian()), unit_noise(again, 2, 3, 3), 5, generators=again)
    assert torch.equal(batch[-1].latents, repeat[-1].latents)
    if SAMPLERS[sampler].stochastic:
        start = unit_noise(seeded(1, 2, 3, 4), 2, 3, 3)
        other = walk(sampler, "default", denoiser(Gaussian()), start, 5, generators=seeded(5, 6, 7, 8))
        assert not torch.equal(batch[-1].latents, other[-1].latents)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_networks_of_every_kind_draw_the_same_picture(sampler, kind):
    latents = []
    for each in ("epsilon", kind):
        noise_schedule = NoiseSchedule(STABLE_DIFFUSION.alphas_cumprod, each)
        generators = seeded(5)
        start, best = unit_noise(generators, 1, 4, 4), denoiser(Gaussian(), noise_schedule)
        steps = walk(sampler, "default", best, start, 5, noise_schedule, generators=generators)
        latents.append(steps[-1].latents)
    torch.testing.assert_close(*latents, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def as_stable_diffusion_pipeline(unet, scheduler, start, base, text, scale, steps, timesteps=None):
    """The denoising loop of diffusers' StableDiffusionPipeline, without the pipeline."""
    scheduler.set_timesteps(steps)
    latents = start * scheduler.init_noise_sigma
    for index, t in enumerate(scheduler.timesteps):
        x = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        told = t if timesteps is None else timesteps[index]
        without, towards = unet(x, told, encoder_hidden_states=torch.cat([base, text])).sample.chunk(2)
        latents = scheduler.step(without + scale * (towards - without), t, latents).prev_sample
    return latents


@pytest.mark.parametrize(
    ("sampler", "spacing"), [("DDIM", "default"), ("DPM++ 2M", "default"), ("DPM++ 2M", "karras")]
)
@torch.no_grad()
def test_the_picture_is_that_of_diffusers(unet, sampler, spacing):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    theirs = (
        DDIMScheduler(**betas, clip_sample=False, steps_offset=1)
        if sampler == "DDIM"
        else DPMSolverMultistepScheduler(**betas, use_karras_sigmas=spacing == "karras")
    )
    start = unit_noise(seeded(1, 2), 4, 8, 8)
    base, text = (unit_noise(seeded(*pair), 3, 8) for pair in ((3, 4), (5, 6)))
    # Under Karras diffusers rounds the timesteps that it tells the network; so ours are lent to it.
    told = visited_levels(sampler, spacing, 10).t.tolist() if spacing == "karras" else None
    expected = as_stable_diffusion_pipeline(unet, theirs, start, base, text, 7.5, 10, told)

    def predict(x, t, conditions):
        return unet(x, t, encoder_hidden_states=torch.cat(conditions)).sample

    steps = walk(sampler, spacing, guided(predict, base, [(text, 7.5)]), start, 10)
    spread = expected.std().item()  # about 15: such a network is no denoiser
    torch.testing.assert_close(steps[-1].latents / spread, expected / spread, rtol=0, atol=1e-5)
    assert all(step.guidance_norm > 0 for step in steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_closing_the_walk_frees_everything(sampler):
    held = []

    def remembering(x, t):
        said = denoiser(Gaussian())(x, t)
        held.extend([weakref.ref(x), weakref.ref(said.value)])
        return said

    generators = seeded(0)
    scheduler = make_scheduler(sampler)
    steps = sample(remembering, scheduler, unit_noise(generators, 1, 4, 4), 8, generators=generators)
    for _ in range(4):
        step = next(steps)
        held.extend([weakref.ref(step.latents), weakref.ref(step.predicted_x0)])
    del step
    steps.close()
    assert [reference() for reference in held] == [None] * len(held), (
        "at once, with no help from the collector"
    )
    assert len(held) == 16, "no further call after closing"


def test_a_scheduler_serves_two_runs_at_once():
    scheduler = make_scheduler("DPM++ 2M", "karras")
    start = unit_noise(seeded(1), 1, 4, 4)
    alone = [step.latents for step in sample(denoiser(Gaussian()), scheduler, start, 6)]
    pairs = zip(*(sample(denoiser(Gaussian()), scheduler, each, 6) for each in (start, -start)), strict=True)
    for expected, (one, other) in zip(alone, pairs, strict=True):
        assert torch.equal(one.latents, expected)
        assert torch.equal(other.latents, -expected)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "zero_snr" in spacings_for(name)])
def test_beyond_its_grid_a_network_is_believed_at_the_level_it_was_told(sampler):
    """At SNR 2**-24 an error of 3% in eps would be one of 12,000% in x_0; at the grid's end it is 44%."""

    def imperfect(x, t):
        return Prediction(0.97 * denoiser(Gaussian())(x, t).value)

    generators = seeded(0)
    start = unit_noise(generators, 1, 8, 8)
    steps = walk(sampler, "zero_snr", imperfect, start, 12, generators=generators)
    assert steps[0].snr == pytest.approx(2.0**-24, rel=1e-3)
    assert steps[0].t == 999
    assert steps[0].predicted_x0.abs().max() < 0.5 * start.abs().max()
