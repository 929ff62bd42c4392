"""The network that reads depth and joints out of pictures, trained on Toyland's scenes, whose truth is known.

    python -m modules.training.sight --steps 2500

It judges whether a ControlNet is obeyed, and reads depth maps out of pictures in the app.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from modules.conditions.sight import GRID, SIDE, WEIGHTS, Sight, joints, seen
from modules.training.checkpoint import resume_run, save_run, update_average
from modules.training.denoiser import learning_rate
from modules.training.export import write_manifest
from modules.training.precision import precision
from modules.training.toyland.scenes import Scene, is_held_out, scene

SPREAD = 0.75  # of a joint's heat, in cells
MIRROR = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)  # left and right change places
GLANCE = 32  # pixels: enough to learn what a scene would hold
HELD_OUT = 10**6  # scenes from this seed on were rendered for nobody else


class Scenes:
    """The rendered scenes at the size at which the network looks, with their truth."""

    def __init__(self, data: Path):
        rgb = np.load(data / "rgb.npy", mmap_mode="r")
        size = rgb.shape[1]
        self.pictures = np.stack([shrunk(one) for one in rgb])
        self.nearness = np.stack([nearness(one) for one in np.load(data / "depth.npy", mmap_mode="r")])
        self.keypoints = np.load(data / "keypoints.npy") / (size, size, 1)

    def batch(self, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """n pictures (n, 3, 128, 128) from 0 to 1, recoloured and mirrored, and targets (n, 19, 32, 32).

        Hidden joints are asked for too: where they must be can be told from the rest.
        """
        rows = rng.integers(0, len(self.pictures), n)
        pictures, targets = [], []
        for row in rows:
            picture, near, points = self.pictures[row], self.nearness[row], self.keypoints[row]
            if rng.random() < 0.5:
                picture, near = picture[:, ::-1], near[:, ::-1]
                points = (points * (-1, 1, 1) + (1, 0, 0))[list(MIRROR)]
            pictures.append(recoloured(picture, rng))
            targets.append(np.concatenate([heat(points), near[None]]))
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return batch.contiguous(memory_format=torch.channels_last), torch.from_numpy(
            np.stack(targets)
        ).float()


def shrunk(rgb: np.ndarray) -> np.ndarray:
    """A picture as the network sees it, (128, 128, 3) uint8."""
    return np.asarray(Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BOX))


def nearness(depth: np.ndarray) -> np.ndarray:
    """The inverse of distances (H, W) on the grid, from 0 (far) to 1, as depth maps are stretched."""
    inverse = Image.fromarray(1 / np.maximum(depth.astype(np.float32), 1e-6))
    small = np.asarray(inverse.resize((GRID, GRID), Image.Resampling.BOX))
    far, near = np.percentile(small, (0.5, 99.5))
    return np.clip((small - far) / max(near - far, 1e-9), 0, 1)


def recoloured(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 as float32 from 0 to 1, its channels shuffled, brightened and made noisy."""
    out = picture.astype(np.float32) / 255
    if rng.random() < 0.4:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.15:
        out = out.mean(2, keepdims=True).repeat(3, 2)
    out = np.clip(out * rng.uniform(0.7, 1.3, 3) + rng.uniform(-0.1, 0.1), 0, 1) ** rng.uniform(0.7, 1.4)
    return (out + rng.normal(0, rng.uniform(0, 0.04), out.shape)).astype(np.float32)


def heat(points: np.ndarray) -> np.ndarray:
    """Where joints (18, 3) in 0..1 are, on the grid: (18, 32, 32), 1 at each; all 0 without a figure."""
    if np.isnan(points).any():
        return np.zeros((len(points), GRID, GRID))
    y, x = np.mgrid[0.5:GRID, 0.5:GRID]
    away = (x - points[:, 0, None, None] * GRID) ** 2 + (y - points[:, 1, None, None] * GRID) ** 2
    return np.exp(-away / (2 * SPREAD**2))


def loss_of(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the joints' heat, of which little is hot, and the absolute error of nearness."""
    weight = 1 + 20 * wanted[:, :-1]
    joints = (
        weight * F.binary_cross_entropy_with_logits(said[:, :-1], wanted[:, :-1], reduction="none")
    ).mean()
    return joints * 10 + (said[:, -1] - wanted[:, -1]).abs().mean()


def train(data: Path, run: Path, steps: int, batch_size: int, seed: int = 0) -> None:
    """Train until `steps`, going on from `run/sight.pt` where it exists."""
    torch.manual_seed(seed)
    network = Sight().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02, fused=True)
    first = resume_run(run / "sight.pt", network, average, optimizer).get("step", 0)
    scenes, saved, running = Scenes(data), time.time(), None
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, 1e-3, 0.5)
        pictures, wanted = scenes.batch(batch_size, np.random.default_rng((seed, step)))
        with precision():
            said = network(pictures)
        loss = loss_of(said.float(), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(average, network, min(0.995, (step + 1) / (step + 10)))
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {running:.4f}", flush=True)
        if time.time() - saved > 300 or step + 1 == steps:
            save_run(run / "sight.pt", network, average, optimizer, step=step + 1)
            saved = time.time()
    export(average, WEIGHTS.parent, {"steps": steps, "samples": steps * batch_size, "scores": score(average)})


def score(network: Sight, count: int = 200) -> dict[str, float | int]:
    """How well it reads true pictures that nobody was trained on: PCK@0.1 of all joints, rank correlation."""
    drawn = held_out_scenes(count // 2, "figure") + held_out_scenes(count - count // 2, "objects")
    read = seen(network.eval(), [Image.fromarray(one.image) for one in drawn])
    near = [pck(joints(heat[:-1], 0), one.keypoints / 256) for heat, one in zip(read, drawn, strict=True)
            if one.keypoints is not None]  # fmt: skip
    ranks = [spearman(heat[-1], nearness(one.depth)) for heat, one in zip(read, drawn, strict=True)]
    return {
        "pictures": count, "figures": len(near),
        "pck@0.1": round(float(np.concatenate(near).mean()), 3),
        "depth rank correlation": round(float(np.mean(ranks)), 3),
    }  # fmt: skip


def held_out_scenes(count: int, kind: str | None = None) -> list[Scene]:
    """Scenes of a kind that nobody was trained on, and a named pose only before a held-out background."""
    drawn, seed = [], HELD_OUT
    while len(drawn) < count:
        facts = scene(seed, size=GLANCE, kind=kind).facts
        if facts["pose"] is None or is_held_out(facts):
            drawn.append(scene(seed, kind=kind))
        seed += 1
    return drawn


def pck(found, true: np.ndarray) -> np.ndarray:
    """Which visible joints (18, 3) lie within a tenth of the person's longer side of where they were found.

    One truth value for each joint that is visible in `true`; a joint not found is wrong.
    """
    visible = true[:, 2] > 0
    reach = 0.1 * np.ptp(true[:, :2], axis=0).max()
    off = [np.inf if spot is None else np.hypot(*(np.array(spot) - at[:2])) for spot, at in zip(found, true)]
    return (np.array(off) <= reach)[visible]


def spearman(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """The rank correlation of two maps, inside a mask where there is one."""
    from scipy.stats import spearmanr

    where = np.ones(one.shape, bool) if where is None else where
    return float(spearmanr(one[where], other[where]).statistic)


def export(network: Sight, folder: Path, facts: dict) -> None:
    """Ship the weights in float16, with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS.name, metadata={"format": "pt"})
    write_manifest(folder, {"name": "Toyland sight", "licence": "Apache-2.0", "training": facts})
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland/scenes"), help="scenes of modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    train(args.data, args.run, args.steps, args.batch_size)


if __name__ == "__main__":
    main()
