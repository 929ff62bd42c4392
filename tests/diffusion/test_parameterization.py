"""eps, x_0, v, score and flow velocity are one thing in five coordinates."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modules.diffusion.parameterization import FROM_PAIR, TO_X0, convert, from_x0, noised, to_x0

numbers = st.floats(-5, 5)
powers = st.floats(0.01, 0.99)


def test_worked_examples():
    assert noised(2, -0.5, 0.81**0.5, 0.19**0.5) == pytest.approx(1.582055, abs=1e-6)
    shaken = noised(torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 2.0]), 0.64**0.5, 0.36**0.5)
    assert shaken.tolist() == pytest.approx([1.8, 1.2])
    x, eps = torch.tensor([1.2, -0.3]), torch.tensor([0.5, -1.0])
    assert to_x0("epsilon", eps, x, 0.36**0.5, 0.64**0.5).tolist() == pytest.approx(
        [1.3333, 0.8333], abs=1e-4
    )
    assert from_x0("score", 1.0, 0.8 + 0.6 * 2.0, 0.8, 0.6) == pytest.approx(-2.0 / 0.6)
    assert from_x0("v_prediction", 1.0, 0.8 + 0.6 * 2.0, 0.8, 0.6) == pytest.approx(0.8 * 2 - 0.6 * 1)
    assert from_x0("flow", 1.0, 0.8 + 0.6 * 2.0, 0.8, 0.6) == pytest.approx(2.0 - 1.0)


@given(x0=numbers, eps=numbers, power=powers)
def test_every_coordinate_leads_to_every_other_and_back(x0, eps, power):
    alpha, sigma = power**0.5, (1 - power) ** 0.5
    x = noised(x0, eps, alpha, sigma)
    assert set(TO_X0) == set(FROM_PAIR) == {"epsilon", "sample", "v_prediction", "score", "flow"}
    for source, target in itertools.product(TO_X0, repeat=2):
        value = FROM_PAIR[source](x0, eps, alpha, sigma)
        told = FROM_PAIR[target](x0, eps, alpha, sigma)
        assert convert(value, x, alpha, sigma, source, target) == pytest.approx(told, abs=1e-9, rel=1e-9)


@given(x0=numbers, eps=numbers, power=powers)
def test_flow_velocity_is_the_slope_of_the_straight_path(x0, eps, power):
    alpha, sigma = power**0.5, (1 - power) ** 0.5
    time = sigma / (alpha + sigma)
    on_path = noised(x0, eps, alpha, sigma) / (alpha + sigma)
    velocity = from_x0("flow", x0, noised(x0, eps, alpha, sigma), alpha, sigma)
    assert on_path - time * velocity == pytest.approx(x0, abs=1e-9)
    assert on_path + (1 - time) * velocity == pytest.approx(eps, abs=1e-9)
