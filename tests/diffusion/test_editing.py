"""Starting from a picture and keeping part of one, against closed forms."""

import pytest
import torch

from modules.diffusion.editing import image_to_image, inpainted
from modules.diffusion.exact import Gaussian, denoiser
from modules.diffusion.guidance import Prediction
from modules.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule
from modules.diffusion.parameterization import noised
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import SAMPLERS, make_scheduler, visited_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS of diffusers


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def unit(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed)[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_is_noised_to_the_first_level_and_walked_from_there(sampler):
    picture, noise, seen = unit(1, 2, 1, 3, 3), unit(2, 2, 1, 3, 3), []

    def watching(x, t):
        seen.append((x, t))
        return denoiser(Gaussian())(x, t)

    scheduler = make_scheduler(sampler)
    steps = list(
        image_to_image(watching, scheduler, picture, noise, 10, strength=0.4, generators=seeded(1, 2))
    )
    levels = visited_levels(sampler, "default", 10, strength=0.4)
    assert [step.t for step in steps] == levels.t.tolist() == [t for _, t in seen]
    torch.testing.assert_close(seen[0][0], noised(picture, noise, *levels.at(0)[1:]), rtol=1e-5, atol=1e-5)


def test_the_weaker_the_change_the_closer_the_picture():
    picture, noise = unit(1, 1, 1, 16, 16) * 0.5, unit(2, 1, 1, 16, 16)
    scheduler = make_scheduler("DPM++ 2M", "karras")
    likeness = []
    for strength in (0.1, 0.4, 0.7, 1.0):
        *_, last = image_to_image(denoiser(Gaussian()), scheduler, picture, noise, 20, strength=strength)
        likeness.append(torch.corrcoef(torch.stack([last.latents.flatten(), picture.flatten()]))[0, 1].item())
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > 0.95
    assert abs(likeness[-1]) < 0.2


def test_half_way_the_gaussian_world_keeps_a_known_share():
    """The ODE carries x by one factor from any level, so the end is known in closed form."""
    world, picture, noise = Gaussian(), unit(1, 1, 1, 4, 4), unit(2, 1, 1, 4, 4)
    scheduler = make_scheduler("Heun", "karras")
    *_, last = image_to_image(denoiser(world), scheduler, picture, noise, 60, strength=0.5)
    _, alpha, sigma = visited_levels("Heun", "karras", 60, strength=0.5).at(0)
    truth = world.end_of_path(noised(picture, noise, alpha, sigma), alpha, sigma)
    torch.testing.assert_close(last.latents, truth, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_kept_comes_out_as_it_went_in_and_the_rest_is_painted_as_if_alone(sampler):
    """Pixels of the Gaussian world are independent: inside the mask the walk must notice nothing."""
    known, noise = unit(1, 2, 1, 6, 6), unit(2, 2, 1, 6, 6)
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2:, 1:4] = 1
    scheduler, best = make_scheduler(sampler), denoiser(Gaussian())
    keeping = inpainted(best, known, mask, noise, STABLE_DIFFUSION)
    *_, edited = sample(keeping, scheduler, noise, 12, generators=seeded(1, 2))
    *_, free = sample(best, scheduler, noise, 12, generators=seeded(1, 2))
    inside = mask.bool().expand_as(known)
    torch.testing.assert_close(edited.latents[inside], free.latents[inside], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(edited.predicted_x0[~inside], known[~inside], rtol=1e-4, atol=1e-4)
    left = {"PNDM": 0.15, "TCD": 0.15}.get(sampler, 1e-3)  # these two do not end at sigma 0
    torch.testing.assert_close(edited.latents[~inside], known[~inside], rtol=0, atol=left)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_network_sees_the_kept_part_under_one_noise(kind):
    noise_schedule = NoiseSchedule(STABLE_DIFFUSION.alphas_cumprod, kind)
    known, noise, seen = unit(1, 1, 1, 4, 4), unit(2, 1, 1, 4, 4), []

    def watching(x, t):
        seen.append((x, t))
        return denoiser(Gaussian(), noise_schedule)(x, t)

    keeping = inpainted(watching, known, torch.zeros(1, 1, 1, 1), noise, noise_schedule)
    *_, last = sample(keeping, make_scheduler("DPM++ 2M SDE", "karras", noise_schedule), noise, 8)
    for x, t in seen:
        torch.testing.assert_close(x, noised(known, noise, *noise_schedule.level_at(t)))
    torch.testing.assert_close(last.latents, known, rtol=0, atol=1e-3)


def test_editing_wrappers_nest():
    known, noise = unit(1, 1, 1, 4, 4), unit(2, 1, 1, 4, 4)
    half = torch.full((1, 1, 4, 4), 0.5)
    keeping = inpainted(
        lambda x, t: Prediction(torch.zeros_like(x), 2.5), known, half, noise, STABLE_DIFFUSION
    )
    steps = list(image_to_image(keeping, make_scheduler("DDIM"), known, noise, 10, strength=0.3))
    assert len(steps) == 3
    assert steps[-1].guidance_norm == 2.5
