"""The network that sees how a figure stands, trained on Toyland's scenes, whose joints are known exactly.

    python -m modules.training.posture

It judges whether a ControlNet for poses is obeyed; it knows Toyland's figures, and no real people.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import modules
from modules.conditions.pose import KEYPOINTS, Person
from modules.conditions.sight import Block
from modules.training.precision import precision
from modules.training.seeing import fit, ship
from modules.training.sight import held_out_scenes
from modules.training.toyland.scenes import Scene

WEIGHTS = modules.HOME / "assets" / "posture" / "posture.safetensors"
SIDE, GRID = 128, 16  # a picture is looked at in SIDE x SIDE pixels; a joint lies in one of GRID x GRID cells
FINE, COARSE = 40, 80  # widths
SPREAD = 0.8  # cells: how far a joint's target reaches around its place
NEAR = 1.5  # cells around the surest one that say where in it the joint lies
HIDDEN = 0.3  # what a joint that cannot be seen weighs, beside 1
PEAK = 2e-3
SIDES = {"left": "right", "right": "left"}


class Posture(nn.Module):
    """Pictures (B, 3, 128, 128) from 0 to 1 -> for each joint the logits of its cells, (B, 18, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3 * (SIDE // GRID // 2) ** 2, FINE, 1)
        self.down = nn.Sequential(nn.SiLU(), nn.Conv2d(FINE, FINE, 3, 2, 1), Block(FINE))
        self.coarse = nn.Sequential(
            nn.Conv2d(FINE, COARSE, 3, 2, 1), *(Block(COARSE, dilation) for dilation in (1, 2, 1))
        )
        self.up = nn.Conv2d(COARSE, FINE, 1)
        self.join = Block(FINE)
        self.leave = nn.Conv2d(FINE, len(KEYPOINTS), 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fine = self.down(self.enter(F.pixel_unshuffle(pictures - 0.5, SIDE // GRID // 2)))
        coarse = self.up(self.coarse(fine))
        return self.leave(F.silu(self.join(fine + F.interpolate(coarse, scale_factor=2.0, mode="bilinear"))))


@functools.cache
def posture() -> Posture:
    """The shipped network; loaded when it is first asked for."""
    network = Posture()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


def stance(network: Posture, pictures: Sequence[Image.Image]) -> list[Person]:
    """The one figure that a network sees in each picture, of any size, hidden joints guessed."""
    small = [np.asarray(one.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for one in pictures]
    with torch.no_grad():
        spots = places(network(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255))
    return [tuple((x, y) for x, y in one) for one in spots.tolist()]


def cells() -> torch.Tensor:
    """The middle of every cell as shares of the picture, (256, 2): x, y."""
    at = (torch.arange(GRID) + 0.5) / GRID
    return torch.cartesian_prod(at, at).flip(1)


def places(logits: torch.Tensor) -> torch.Tensor:
    """Where joints lie, (B, 18, 2) as shares of the picture: the mean over the cells around the surest."""
    flat, at = logits.flatten(2).float(), cells()
    away = at[flat.argmax(-1)][:, :, None] - at
    near = away.abs().amax(-1) * GRID < NEAR
    return flat.masked_fill(~near, -torch.inf).softmax(-1) @ at


def targets(spots: torch.Tensor) -> torch.Tensor:
    """Joints at (B, 18, 2) as shares of the picture, spread over cells: (B, 18, 256), each summing to 1."""
    away = (spots[:, :, None] - cells()).square().sum(-1) * GRID**2
    return (-away / (2 * SPREAD**2)).softmax(-1)


class Figures:
    """The rendered scenes that hold a figure, at the size at which the network looks, and its joints."""

    def __init__(self, data: Path):
        rgb, points = np.load(data / "rgb.npy", mmap_mode="r"), np.load(data / "keypoints.npy")
        rows = np.flatnonzero(~np.isnan(points).any((1, 2)))
        small = [Image.fromarray(rgb[row]).resize((SIDE, SIDE), Image.Resampling.BOX) for row in rows]
        self.pictures = torch.from_numpy(np.stack([np.asarray(one) for one in small]))
        joints = points[rows] / (rgb.shape[1], rgb.shape[1], 1)
        self.joints = torch.from_numpy(joints.astype(np.float32))

    def batch(self, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """n pictures (n, 3, 128, 128) from 0 to 1, and joints (n, 18, 3), all changed alike."""
        rows = torch.from_numpy(rng.integers(0, len(self.pictures), n))
        pictures, joints = moved(self.pictures[rows].permute(0, 3, 1, 2) / 255, self.joints[rows], rng)
        return worsened(pictures, rng).contiguous(memory_format=torch.channels_last), joints


def moved(
    pictures: torch.Tensor, joints: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (B, 3, H, W) and joints (B, 18, 3) turned, sized, shifted, and half of them mirrored.

    In a mirror the left hand is the right one. A joint that leaves the picture is no longer seen.
    """
    n = len(pictures)
    turn, size = rng.normal(0, 0.1, n), np.exp(rng.uniform(-0.25, 0.3, n))
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    # From a place in the new picture, about its middle from -1 to 1, to the place in the old one.
    cos, sin = np.cos(turn) / size, np.sin(turn) / size
    shift = rng.uniform(-0.15, 0.15, (n, 2))
    rows = [[mirror * cos, -mirror * sin, shift[:, 0]], [sin, cos, shift[:, 1]]]
    back = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float()
    grid = F.affine_grid(back, list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    old = joints[..., :2] * 2 - 1 - back[:, None, :, 2]
    spots = (torch.linalg.solve(back[:, None, :, :2], old[..., None])[..., 0] + 1) / 2
    seen = joints[..., 2:] * ((spots >= 0) & (spots <= 1)).all(-1, keepdim=True)
    joints = torch.cat([spots, seen], -1)
    swapped = torch.from_numpy(mirror < 0)[:, None, None]
    return pictures, torch.where(swapped, joints[:, MIRRORED], joints)


def mirrored(name: str) -> str:
    """The joint that a mirror makes of a joint."""
    side, _, rest = name.partition("_")
    return f"{SIDES[side]}_{rest}" if side in SIDES else name


MIRRORED = [KEYPOINTS.index(mirrored(name)) for name in KEYPOINTS]


def worsened(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Pictures (B, 3, H, W) from 0 to 1 in other colours and lights, noisy, and some of them blurred."""
    n = len(pictures)

    def drawn(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape)).float()

    pictures = torch.stack([
        one[torch.from_numpy(rng.permutation(3))] if rng.random() < 0.4 else one for one in pictures
    ])  # fmt: skip
    pictures = pictures * drawn(0.7, 1.3, n, 3, 1, 1) + drawn(-0.1, 0.1, n, 1, 1, 1)
    blurred, side = pictures, int(rng.choice((16, 20, 24, 32, 48)))  # what a network dreams is often no finer
    blurred = F.interpolate(pictures, size=(side, side), mode="area")
    blurred = F.interpolate(blurred, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
    pictures = torch.where(torch.from_numpy(rng.random(n) < 0.4)[:, None, None, None], blurred, pictures)
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
    return pictures.clamp(0, 1) ** drawn(0.7, 1.4, n, 1, 1, 1) + noise * drawn(0, 0.05, n, 1, 1, 1)


def train(data: Path, run: Path, steps: int, batch_size: int, seed: int = 0) -> None:
    """Train until `steps`, going on from `run/posture.pt` where it exists, and ship the averaged weights."""
    torch.manual_seed(seed)
    network = Posture().to(memory_format=torch.channels_last)
    figures = Figures(data)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        pictures, joints = figures.batch(batch_size, rng)
        with precision():
            said = network(pictures)
        surprise = -(targets(joints[..., :2]) * said.float().flatten(2).log_softmax(-1)).sum(-1)
        inside = ((joints[..., :2] >= 0) & (joints[..., :2] <= 1)).all(-1)
        weight = inside * (HIDDEN + (1 - HIDDEN) * joints[..., 2])
        return (surprise * weight).sum() / weight.sum()

    average = fit(network, run / "posture.pt", steps, PEAK, loss, seed)
    facts = {"steps": steps, "samples": steps * batch_size, "scores": score(average)}
    ship(average, WEIGHTS, "Toyland posture", facts)


def pck(found: Person, true: np.ndarray) -> np.ndarray:
    """Which joints lie within a tenth of the figure's longer side of where they should be.

    true (18, 3): x and y in 0..1, and 1 where visible. One truth value for each joint that is visible there;
    a joint not found is wrong.
    """
    reach = 0.1 * np.ptp(true[:, :2], axis=0).max()
    off = [np.inf if spot is None else np.hypot(*(np.array(spot) - at[:2])) for spot, at in zip(found, true)]
    return (np.array(off) <= reach)[true[:, 2] > 0]


def joints_of(one: Scene) -> np.ndarray:
    """The joints of a scene with a figure, (18, 3): x and y as shares of the picture, 1 where visible."""
    assert one.keypoints is not None
    return one.keypoints / (len(one.image), len(one.image), 1)


def score(network: Posture, count: int = 80) -> dict[str, float | int]:
    """PCK@0.1 in pictures that nobody was trained on, half of them with other things beside the figure."""
    drawn = held_out_scenes(count // 2, "figure") + held_out_scenes(count - count // 2, "both")
    found = stance(network.eval(), [Image.fromarray(one.image) for one in drawn])
    hits = [pck(who, joints_of(one)) for who, one in zip(found, drawn)]
    return {"pictures": count, "PCK@0.1": round(float(np.concatenate(hits).mean()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland/scenes"), help="scenes of modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    train(args.data, args.run, args.steps, args.batch_size)


if __name__ == "__main__":
    main()
