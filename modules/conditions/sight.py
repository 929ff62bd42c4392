"""The small network that reads depth and joints out of pictures: trained on Toyland, at home only there."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import modules
from modules.conditions.depth import stretched
from modules.conditions.pose import KEYPOINTS, Person

WEIGHTS = modules.HOME / "assets" / "sight" / "sight.safetensors"
SIDE, GRID = 128, 32  # a picture is looked at in SIDE x SIDE pixels; answers lie on GRID x GRID cells
SURE = 0.25  # below this peak of its heat a joint counts as not seen


class Sight(nn.Module):
    """Pictures (B, 3, 128, 128) from 0 to 1 -> (B, 19, 32, 32): the heat of each OpenPose-18 joint as logits,
    and last the nearness of what is seen, from 0 (far) to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(48, 64, 3, 1, 1)
        self.fine = nn.Sequential(Block(64), Block(64))
        self.down = nn.Conv2d(64, 128, 3, 2, 1)
        self.coarse = nn.Sequential(Block(128), Block(128), Block(128, dilation=2), Block(128, dilation=4))
        self.up = nn.Conv2d(128, 64, 1)
        self.join = Block(64)
        self.leave = nn.Conv2d(64, len(KEYPOINTS) + 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fine = self.fine(self.enter(F.pixel_unshuffle(pictures - 0.5, SIDE // GRID)))
        coarse = self.coarse(self.down(fine))
        return self.leave(self.join(fine + F.interpolate(self.up(coarse), scale_factor=2, mode="bilinear")))


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


def seen(network: Sight, pictures: list[Image.Image]) -> np.ndarray:
    """What a network makes of pictures of any size: (N, 19, 32, 32), heat from 0 to 1 and nearness."""
    small = [np.asarray(one.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for one in pictures]
    with torch.no_grad():
        answer = network(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255)
    return torch.cat([answer[:, :-1].sigmoid(), answer[:, -1:]], 1).numpy()


def joints(heat: np.ndarray, sure: float = SURE) -> Person:
    """The joints of one person from heat (18, 32, 32): (x, y) in 0..1, or None where none is hot enough.

    A joint lies at the heat's mean over the hottest cell and its neighbours.
    """
    return tuple(_peak(one, sure) for one in heat)


def depth_of(picture: Image.Image) -> Image.Image:
    """The depth map of a picture at its own size: grey, near is white."""
    nearness = Image.fromarray(seen(sight(), [picture])[0, -1])
    return stretched(np.asarray(nearness.resize(picture.size, Image.Resampling.BICUBIC)))


def _peak(heat: np.ndarray, sure: float) -> tuple[float, float] | None:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    if heat[row, column] < sure:
        return None
    rows, columns = (slice(max(at - 1, 0), at + 2) for at in (row, column))
    patch = heat[rows, columns]
    y, x = np.mgrid[rows, columns][:, : patch.shape[0], : patch.shape[1]] + 0.5
    return float((x * patch).sum() / patch.sum() / GRID), float((y * patch).sum() / patch.sum() / GRID)
