"""The small network that sees depth in pictures lives here: trained on Toyland, and at home only there."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import modules
from modules.conditions.depth import stretched

WEIGHTS = modules.HOME / "assets" / "sight" / "sight.safetensors"
SIDE, GRID = 128, 32  # a picture is looked at in SIDE x SIDE pixels; the answer lies on GRID x GRID cells
FINE, COARSE = 24, 64  # widths


class Sight(nn.Module):
    """Pictures (B, 3, 128, 128) from 0 to 1 -> nearness (B, 32, 32), from 0 (far) to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3 * (SIDE // GRID) ** 2, FINE, 3, 1, 1)
        self.fine = Block(FINE)
        self.down = nn.Conv2d(FINE, COARSE, 3, 2, 1)
        self.coarse = nn.Sequential(*(Block(COARSE, dilation) for dilation in (1, 2, 4, 1)))
        self.up = nn.Conv2d(COARSE, FINE, 1)
        self.join = Block(FINE)
        self.leave = nn.Conv2d(FINE, 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fine = self.fine(self.enter(F.pixel_unshuffle(pictures - 0.5, SIDE // GRID)))
        coarse = self.up(self.coarse(self.down(fine)))
        return self.leave(self.join(fine + F.interpolate(coarse, scale_factor=2.0, mode="bilinear")))[:, 0]


class Block(nn.Module):
    """Two convolutions around the sum, each after a normalisation."""

    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, dilation, dilation),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


@functools.cache
def sight() -> Sight:
    """The shipped network; loaded when it is first asked for."""
    network = Sight()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


def seen(network: Sight, pictures: Sequence[Image.Image]) -> np.ndarray:
    """The nearness that a network sees in pictures of any size, (N, 32, 32) float32."""
    small = [np.asarray(one.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for one in pictures]
    with torch.no_grad():
        return network(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255).numpy()


def depth_of(picture: Image.Image) -> Image.Image:
    """The depth map of a picture at its own size: grey, near is white."""
    nearness = Image.fromarray(seen(sight(), [picture])[0])
    return stretched(np.asarray(nearness.resize(picture.size, Image.Resampling.BICUBIC)))
