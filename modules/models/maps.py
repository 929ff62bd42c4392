"""Control maps act on a network here: who reads a map, when it holds, and what several maps add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modules.tasks import TaskError


@dataclass(frozen=True)
class ControlNetwork:
    """A ControlNet in memory, the hash of its weights, and the U-Net that learned with it, if one did."""

    network: Any
    hash: str
    unet: Any = None


@dataclass(frozen=True, eq=False)
class Control:
    """One map over the picture: who reads it, its pixels (1, 3, H, W) from 0 to 1, its weight, its time.

    It holds from timestep `first` down to `last`, both included. `unet`: as in ControlNetwork.
    """

    network: Any
    picture: torch.Tensor
    scale: float = 1.0
    first: float = float("inf")
    last: float = float("-inf")
    unet: Any = None

    def holds(self, t: float) -> bool:
        """Whether the map acts at timestep `t`."""
        return self.last <= t <= self.first


def no_control(kind: str) -> ControlNetwork:
    """What a model without ControlNets answers; TaskError."""
    raise TaskError("control_type", f"This model has no {kind} ControlNet.")


def holding(timesteps: Sequence[float], start: float, end: float) -> list[float]:
    """Those timesteps at which a map holds from share `start` to share `end` of the steps.

    As in diffusers: step i of n is among them if it begins at or after `start` and is over by `end`.
    """
    count = len(timesteps)
    return [float(t) for i, t in enumerate(timesteps) if i / count >= start and (i + 1) / count <= end]


def led(controls: Sequence[Control], t: float, unet: Any) -> Any:
    """The U-Net that answers at `t`: one that learned beside a ControlNet whose map holds, else `unet`."""
    return next((one.unet for one in controls if one.unet is not None and one.holds(t)), unet)


def added(
    controls: Sequence[Control], t: float, sample: torch.Tensor, told: Mapping[str, Any]
) -> tuple[Any, Any]:
    """What the maps that hold at `t` add together to the U-Net's skips and to its middle; None without maps.

    `told`: what the U-Net is told beside the sample, which every ControlNet is told too.
    """
    down, middle = None, None
    for control in controls:
        if not control.holds(t):
            continue
        maps = control.picture.expand(len(sample), -1, -1, -1)
        timestep = torch.tensor(t, device=sample.device)
        skips, centre = control.network(
            sample,
            timestep,
            controlnet_cond=maps,
            conditioning_scale=control.scale,
            return_dict=False,
            **told,
        )
        down = skips if down is None else [one + other for one, other in zip(down, skips, strict=True)]
        middle = centre if middle is None else middle + centre
    return down, middle
