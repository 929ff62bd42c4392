"""The coordinates in which a network may state its prediction live here, and the way from each to each.

All describe the same pair (x_0, eps) behind a sample ``x = alpha * x_0 + sigma * eps``:

=================  =======================================  ==========================================
``epsilon``        the noise                                Ho et al. 2020
``sample``         x_0, the clean latents                   Ho et al. 2020, section 3.2
``v_prediction``   alpha * eps - sigma * x_0                Salimans and Ho 2022, appendix D
``score``          -eps / sigma, the gradient of log p(x)   Song et al. 2021
``flow``           eps - x_0, rectified-flow velocity       Liu et al. 2023
=================  =======================================  ==========================================

The functions take tensors, arrays or numbers; alpha and sigma are numbers or broadcast against ``x``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TO_X0: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "epsilon": lambda value, x, alpha, sigma: (x - sigma * value) / alpha,
    "sample": lambda value, x, alpha, sigma: value,
    "v_prediction": lambda value, x, alpha, sigma: (alpha * x - sigma * value) / (alpha**2 + sigma**2),
    "score": lambda value, x, alpha, sigma: (x + sigma**2 * value) / alpha,
    "flow": lambda value, x, alpha, sigma: (x - sigma * value) / (alpha + sigma),
}

FROM_PAIR: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "epsilon": lambda x0, eps, alpha, sigma: eps,
    "sample": lambda x0, eps, alpha, sigma: x0,
    "v_prediction": lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    "score": lambda x0, eps, alpha, sigma: -eps / sigma,
    "flow": lambda x0, eps, alpha, sigma: eps - x0,
}


def noised(x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
    """The sample at a level, from clean latents and unit noise (Ho et al. 2020, eq. 4)."""
    return alpha * x0 + sigma * eps


def to_x0(kind: str, value: Any, x: Any, alpha: Any, sigma: Any) -> Any:
    """The clean latents that a prediction of this kind implies at sample ``x``."""
    return TO_X0[kind](value, x, alpha, sigma)


def from_x0(kind: str, x0: Any, x: Any, alpha: Any, sigma: Any) -> Any:
    """The prediction of this kind that says ``x0`` is what lies behind ``x``; sigma must not be 0."""
    return FROM_PAIR[kind](x0, (x - alpha * x0) / sigma, alpha, sigma)


def convert(value: Any, x: Any, alpha: Any, sigma: Any, source: str, target: str) -> Any:
    """A prediction of kind ``source`` restated as kind ``target`` at the same sample and level."""
    return from_x0(target, to_x0(source, value, x, alpha, sigma), x, alpha, sigma)
