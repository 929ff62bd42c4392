"""Guidance as arithmetic: what is asked of the network, and what is made of its answers."""

import pytest
import torch

from modules.diffusion.exact import Gaussian, denoiser
from modules.diffusion.guidance import classifier_guided, guided
from modules.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule
from modules.diffusion.parameterization import convert

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Answers:
    """A network that answers each condition, a number, with that number, and remembers the question."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def __call__(self, x: torch.Tensor, t: float, conditions: list[float]) -> torch.Tensor:
        self.asked.append(list(conditions))
        assert len(x) == len(conditions) * len(X)
        assert all(torch.equal(copy, X) for copy in x.chunk(len(conditions)))
        return torch.cat([torch.full_like(X, number) for number in conditions])


def ask(conditions, t=500.0, **settings):
    network = Answers()
    said = guided(network, 1.0, conditions, **settings)(X, t)
    assert len(network.asked) == 1, "one batched call"
    return (
        said.value.unique().item() if not settings.get("rescale") else said.value,
        said.norm,
        network.asked[0],
    )


def test_one_condition_is_classifier_free_guidance_in_the_convention_of_diffusers():
    assert ask([(3.0, 7.5)]) == (pytest.approx(1 + 7.5 * (3 - 1)), pytest.approx(15.0), [1.0, 3.0])
    scale, base, text = 7.5, 1.0, 3.0
    w = scale - 1
    assert ask([(text, scale)])[0] == pytest.approx((1 + w) * text - w * base), "as the papers write it"


def test_any_number_of_conditions_over_one_base():
    value, norm, asked = ask([(3.0, 2.0), (0.5, 4.0), (-1.0, 0.5)])
    assert value == pytest.approx(1 + 2 * (3 - 1) + 4 * (0.5 - 1) + 0.5 * (-1 - 1))
    assert norm == pytest.approx(abs(value - 1))
    assert asked == [1.0, 3.0, 0.5, -1.0]


@pytest.mark.parametrize(
    ("conditions", "asked", "value"),
    [
        ([], [1.0], 1.0),
        ([(3.0, 1.0)], [3.0], 3.0),
        ([(3.0, 0.0)], [1.0], 1.0),
        ([(3.0, 0.0), (5.0, 1.0)], [5.0], 5.0),
        ([(3.0, 0.25), (5.0, 0.75)], [3.0, 5.0], 4.5),
        ([(3.0, 0.1), (5.0, 0.2), (4.0, 0.7)], [3.0, 5.0, 4.0], 4.1),
        ([(3.0, 1.0), (5.0, 1.0)], [1.0, 3.0, 5.0], 7.0),
        ([(3.0, 2.0), (5.0, -1.0)], [3.0, 5.0], 1.0),
    ],
)
def test_nothing_is_asked_that_does_not_count(conditions, asked, value):
    assert ask(conditions)[2] == asked
    assert ask(conditions)[0] == pytest.approx(value)


def test_outside_its_interval_guidance_leaves_the_plain_condition():
    inside, outside = 500.0, 900.0
    settings = {"interval": (0.3, 0.8)}
    assert ask([(3.0, 5.0)], inside, **settings)[0] == pytest.approx(11.0)
    assert ask([(3.0, 5.0)], outside, **settings) == (3.0, 0.0, [3.0])
    assert ask([(3.0, 5.0)], 100.0, **settings)[2] == [3.0]
    assert ask([(3.0, 5.0)], 250.0, **settings)[2] == [1.0, 3.0], "three quarters of the way to the picture"
    assert ask([(3.0, 5.0)], 750.0, **settings)[2] == [3.0], "a quarter of the way"
    assert ask([(3.0, 3.0), (5.0, 1.0)], outside, **settings)[0] == pytest.approx(0.75 * 3 + 0.25 * 5)
    assert ask([(3.0, 0.5)], outside, **settings)[0] == pytest.approx(2.0), "weights below 1 stay"
    assert ask([(3.0, 5.0)], 0.5, interval=(0.4, 0.6), timesteps=2)[0] == pytest.approx(11.0)


def test_rescale_is_that_of_diffusers():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    base, text = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).unbind()

    def network(x, t, conditions):
        return torch.cat([text if condition else base for condition in conditions])

    for rescale in (0.3, 1.0):
        ours = guided(network, False, [(True, 7.5)], rescale=rescale)(X, 1.0).value
        theirs = rescale_noise_cfg(base + 7.5 * (text - base), text, guidance_rescale=rescale)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_classifier_moves_eps_by_its_gradient(kind):
    noise_schedule = NoiseSchedule(STABLE_DIFFUSION.alphas_cumprod, kind)
    alpha, sigma = noise_schedule.level_at(400.0)
    plain = denoiser(Gaussian(), noise_schedule)
    pushed = classifier_guided(plain, lambda x, t: torch.full_like(x, 0.25), 3.0, noise_schedule)
    before, after = (
        convert(each(X, 400.0).value, X, alpha, sigma, kind, "epsilon") for each in (plain, pushed)
    )
    torch.testing.assert_close(after, before - 3.0 * sigma * 0.25)
    assert pushed(X, 400.0).norm == pytest.approx(0.75 * sigma, rel=1e-5)
