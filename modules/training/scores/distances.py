"""How far apart two sets of features are, as the field measures it: Fréchet, kernel, and spread."""

import numpy as np
from scipy import linalg


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The squared Fréchet distance of the Gaussians with the means and covariances of two sets (N, width).

    Heusel et al. 2017, eq. 6: squared distance of the means, plus trace of A + B - 2 (A B)^(1/2). Of few
    samples it comes out too large, the more so the fewer: compare only what rests on equally many.
    """
    a, b = np.atleast_2d(np.cov(one.T)), np.atleast_2d(np.cov(other.T))
    # The trace of the root is the sum of the roots of the eigenvalues, which are those of A^(1/2) B A^(1/2).
    root = _root(a)
    shared = np.sqrt(np.clip(linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    apart = np.square(one.mean(0) - other.mean(0)).sum()
    return float(apart + np.trace(a) + np.trace(b) - 2 * shared)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The squared maximum mean discrepancy of two sets (N, width), without bias however few they are.

    Bińkowski et al. 2018 (arXiv:1801.01401), section 4: kernel (x . y / width + 1)^3. Of samples of one
    distribution it is 0 on average, so it may be negative.
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(within(one) + within(other) - 2 * kernel(one, other).mean())


def spread(groups: list[np.ndarray]) -> float:
    """The root mean square distance of features (N, width) from their group's mean, without bias for few."""
    squares = [np.square(group - group.mean(0)).sum() / (len(group) - 1) for group in groups]
    return float(np.mean(squares)) ** 0.5
