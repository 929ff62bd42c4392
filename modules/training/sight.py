"""The network that sees depth in pictures, trained on Toyland's scenes, whose depth is known exactly.

    python -m modules.training.sight

It judges whether a ControlNet is obeyed, and reads depth maps out of pictures in the app.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from modules.conditions.sight import GRID, SIDE, WEIGHTS, Sight, seen
from modules.training.precision import precision
from modules.training.seeing import fit, ship
from modules.training.toyland.scenes import Scene, is_held_out, scene

GLANCE = 32  # pixels: enough to learn what a scene would hold
HELD_OUT = 10**6  # scenes from this seed on were rendered for nobody else


class Scenes:
    """The rendered scenes at the size at which the network looks, and how near things are in them."""

    def __init__(self, data: Path):
        rgb, depth = (np.load(data / f"{name}.npy", mmap_mode="r") for name in ("rgb", "depth"))
        small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX) for one in rgb]
        self.pictures = np.stack([np.asarray(one) for one in small])
        self.nearness = np.stack([nearness(one) for one in depth])

    def batch(self, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """n pictures (n, 3, 128, 128) from 0 to 1, recoloured and mirrored, and nearness (n, 32, 32)."""
        pictures, near = [], []
        for row in rng.integers(0, len(self.pictures), n):
            turn = -1 if rng.random() < 0.5 else 1
            pictures.append(recoloured(self.pictures[row, :, ::turn], rng))
            near.append(self.nearness[row, :, ::turn])
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return batch.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(near))


def nearness(depth: np.ndarray) -> np.ndarray:
    """The inverse of distances (H, W) on the grid, float32 from 0 (far) to 1, as depth maps are stretched."""
    inverse = Image.fromarray(1 / np.maximum(depth.astype(np.float32), 1e-6))
    small = np.asarray(inverse.resize((GRID, GRID), Image.Resampling.BOX))
    far, near = np.percentile(small, (0.5, 99.5)).astype(np.float32)
    return np.clip((small - far) / max(near - far, np.float32(1e-9)), 0, 1)


def recoloured(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 as float32 from 0 to 1, its channels shuffled, brightened and made noisy."""
    out = picture.astype(np.float32) / 255
    if rng.random() < 0.4:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.15:
        out = out.mean(2, keepdims=True).repeat(3, 2)
    out = np.clip(out * rng.uniform(0.7, 1.3, 3) + rng.uniform(-0.1, 0.1), 0, 1) ** rng.uniform(0.7, 1.4)
    return (out + rng.normal(0, rng.uniform(0, 0.04), out.shape)).astype(np.float32)


def train(data: Path, run: Path, steps: int, batch_size: int, seed: int = 0) -> None:
    """Train until `steps`, going on from `run/sight.pt` where it exists, and ship the averaged weights."""
    torch.manual_seed(seed)
    network = Sight().to(memory_format=torch.channels_last)
    scenes = Scenes(data)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        pictures, near = scenes.batch(batch_size, rng)
        with precision():
            said = network(pictures)
        return (said.float() - near).abs().mean()

    average = fit(network, run / "sight.pt", steps, 2e-3, loss, seed)
    facts = {"steps": steps, "samples": steps * batch_size, "scores": score(average)}
    ship(average, WEIGHTS, "Toyland sight", facts)


def score(network: Sight, count: int = 100) -> dict[str, float | int]:
    """The mean rank correlation of what it sees with the truth, in pictures that nobody was trained on."""
    drawn = held_out_scenes(count // 2, "figure") + held_out_scenes(count - count // 2, "objects")
    read = seen(network.eval(), [Image.fromarray(one.image) for one in drawn])
    ranks = [spearman(near, nearness(one.depth)) for near, one in zip(read, drawn)]
    return {"pictures": count, "rank correlation": round(float(np.mean(ranks)), 3)}


def held_out_scenes(count: int, kind: str | None = None) -> list[Scene]:
    """Scenes of a kind that nobody was trained on, and a named pose only before a held-out background."""
    drawn, seed = [], HELD_OUT
    while len(drawn) < count:
        facts = scene(seed, size=GLANCE, kind=kind).facts
        if facts["pose"] is None or is_held_out(facts):
            drawn.append(scene(seed, kind=kind))
        seed += 1
    return drawn


def spearman(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """The rank correlation of two maps, inside a mask where there is one."""
    from scipy.stats import spearmanr

    where = np.ones(one.shape, bool) if where is None else where
    return float(spearmanr(one[where], other[where]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland/scenes"), help="scenes of modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    train(args.data, args.run, args.steps, args.batch_size)


if __name__ == "__main__":
    main()
