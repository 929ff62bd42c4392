"""Distances between sets of features, on Gaussians whose distance is known."""

import numpy as np
import pytest

from modules.training.scores.distances import frechet, kernel_distance, spread


def gaussian(n, mean, scales, seed=0):
    """n samples with exactly that mean and those standard deviations along the axes."""
    x = np.random.default_rng(seed).standard_normal((n, len(scales)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)
    return x * scales + mean


def test_the_frechet_distance_of_known_gaussians():
    one, other = gaussian(500, (0, 0, 0), (1, 2, 3)), gaussian(400, (1, -2, 0), (2, 2, 0.5), seed=1)
    # Along shared axes it is the distance of the means and of the standard deviations, squared.
    assert frechet(one, other) == pytest.approx(1 + 4 + 1 + 0 + 6.25)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_knows_turned_axes():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    one, other = gaussian(300, (0, 0), (3, 1)), gaussian(300, (0, 0), (3, 1)) @ turn.T
    a, b = np.diag([9.0, 1.0]), turn @ np.diag([9.0, 1.0]) @ turn.T
    values = np.linalg.eigvals(a @ b)
    assert frechet(one, other) == pytest.approx(20 - 2 * np.sqrt(values).sum().real)


def test_few_pictures_are_enough_for_an_unbiased_kernel_distance():
    rng = np.random.default_rng(3)
    few = [kernel_distance(rng.standard_normal((6, 4)), rng.standard_normal((40, 4))) for _ in range(600)]
    assert abs(np.mean(few)) < 3 * np.std(few) / 600**0.5
    apart = [
        kernel_distance(rng.standard_normal((6, 4)) + 1, rng.standard_normal((40, 4))) for _ in range(50)
    ]
    assert np.mean(apart) > 3 * np.std(few)


def test_the_kernel_distance_of_two_points_apart_is_known():
    one, other = np.zeros((2, 1)), np.ones((2, 1))  # kernels: 1 within one, 8 within the other, 1 across
    assert kernel_distance(one, other) == pytest.approx(1 + 8 - 2)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_spread_does_not_depend_on_how_many_are_drawn(n):
    rng = np.random.default_rng(4)
    groups = [5 + 2 * rng.standard_normal((n, 3)) for _ in range(3000)]
    assert spread(groups) == pytest.approx(2 * 3**0.5, rel=0.03)
