"""ControlNets of Pocket: a copy of its encoder learns to keep the U-Net to poses, depth maps and edges.

    python -m modules.training.control train --unlock
    python -m modules.training.control export

Zero convolutions: Zhang et al. 2023, arXiv:2302.05543, section 3.1. Loss: mean squared error of ε with
min-SNR-5 weights, as the base's own. The base is the family that ships (assets/pocket), so train that first.
A frozen base cannot be led to what it never learned to draw: `--unlock` trains its decoder along, which the
paper's authors call sd_locked=False; the ControlNet then brings that decoder, and the base stays as it is.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetModel
from PIL import Image

from modules.conditions.depth import depth_map
from modules.conditions.edges import edges
from modules.conditions.pose import draw
from modules.models.catalog import CONTROLNETS, card_for_folder
from modules.models.controls import DECODER
from modules.models.files import fingerprint
from modules.models.latent import LatentModel
from modules.models.loading import load
from modules.training.checkpoint import load_state, resume_run, save_run
from modules.training.denoiser import learning_rate, train_on_epsilon
from modules.training.export import save_in_shards, write_manifest
from modules.training.text import TOKENS

NO_CAPTION = 0.3  # so many captions are dropped, so that the map speaks for itself
EMBEDDING = (8, 16, 32, 64, 128)  # widths of the map's own encoder; each but the first halves its side
BATCH = 16  # pictures encoded at once
TRAINED = 2  # of the layers of the map's own encoder, so many at the end learn
SHARES = {"pose": 0.5, "depth": 0.3, "canny": 0.2}  # how often each kind of map is drawn, where all are


@dataclass(frozen=True)
class Cached:
    """Scenes as training reads them.

    latents (N, C, h, w), text states (N, captions, tokens, width) and those of no words, (1, tokens, width);
    by kind, which scenes have a map, (M,), and what the first layers of the map's encoder make of it,
    (M, c, 2h, 2w).
    """

    latents: np.ndarray
    text: np.ndarray
    empty: np.ndarray
    heard: Mapping[str, tuple[np.ndarray, np.ndarray]]


def pose_map(keypoints: np.ndarray, size: int, hidden: bool) -> np.ndarray | None:
    """The skeleton of (18, 3) keypoints in pixels, (size, size, 3) uint8; None without a person.

    Half of all pictures keep their hidden joints (`hidden`), as drawn poses do; detectors leave these out.
    """
    if np.isnan(keypoints).any():
        return None
    shares = keypoints[:, :2] / size
    seen = (hidden | (keypoints[:, 2] > 0)) & ((shares >= 0) & (shares <= 1)).all(1)
    person = tuple(
        (float(x), float(y)) if there else None for (x, y), there in zip(shares, seen, strict=True)
    )
    return np.asarray(draw([person], size, size))


def pose_maps(data: Path) -> Iterator[np.ndarray | None]:
    """A skeleton for every scene with a figure in it."""
    size = np.load(data / "rgb.npy", mmap_mode="r").shape[1]
    for i, points in enumerate(np.load(data / "keypoints.npy")):
        yield pose_map(points, size, hidden=i % 2 == 0)


def depth_maps(data: Path) -> Iterator[np.ndarray | None]:
    """The depth of every scene."""
    return (np.asarray(depth_map(depth)) for depth in np.load(data / "depth.npy", mmap_mode="r"))


def edge_maps(data: Path) -> Iterator[np.ndarray | None]:
    """The edges of every scene."""
    return (np.asarray(edges(Image.fromarray(rgb))) for rgb in np.load(data / "rgb.npy", mmap_mode="r"))


MAPS: dict[str, Callable[[Path], Iterator[np.ndarray | None]]] = {
    "pose": pose_maps,
    "depth": depth_maps,
    "canny": edge_maps,
}


def maps_of(data: Path, kind: str, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which scenes have a map of that kind, `most` of them at most, and the maps, (N, H, W, 3) uint8."""
    there = ((i, one) for i, one in enumerate(MAPS[kind](data)) if one is not None)
    rows, maps = zip(*itertools.islice(there, most), strict=True)
    return np.array(rows), np.stack(maps)


def cache(data: Path, folder: Path, model: LatentModel) -> Cached:
    """What training reads of the scenes, made once, but for the maps as they are heard: `listen` adds them.

    What an autoencoder or a text encoder of other weights made, or another number of scenes, is made again.
    """
    scenes, captions = (
        np.load(data / "rgb.npy", mmap_mode="r"),
        json.loads((data / "captions.json").read_text()),
    )
    facts = {"base": model.hash, "scenes": len(scenes)}
    done = folder / "cache.json"
    if not done.exists() or json.loads(done.read_text()) != facts:
        for stale in folder.glob("*.npy"):
            stale.unlink()
        latents = [
            model.encode(as_input(scenes[i : i + BATCH]) * 2 - 1)
            for i in range(0, len(scenes), BATCH)
        ]
        # What is beyond the first window was cut off when the base was trained, too.
        states = [torch.cat([one.states[:, :TOKENS].half() for one in model.text(said)]) for said in captions]
        for name, made in (
            ("latents", torch.cat(latents).half()),
            ("text", torch.stack(states)),
            ("empty", model.text([""])[0].states),
        ):
            np.save(folder / f"{name}.npy", np.asarray(made))
        done.write_text(json.dumps(facts))
    parts = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "text", "empty"))
    return Cached(*parts, {})


@torch.no_grad()
def listen(cached: Cached, data: Path, folder: Path, network: "Led", kinds: Sequence[str]) -> Cached:
    """The cached scenes with their maps as the network's first layers hear them, made once."""
    heard = {}
    for kind in kinds:
        paths = [folder / f"{kind}-{name}.npy" for name in ("rows", "heard")]
        if not all(path.exists() for path in paths):
            rows, maps = maps_of(data, kind)
            made = [network.first_layers(as_input(maps[i : i + BATCH])) for i in range(0, len(maps), BATCH)]
            for path, array in zip(paths, (rows, torch.cat(made).half().numpy()), strict=True):
                np.save(path, array)
        rows, made = (np.load(path, mmap_mode="r") for path in paths)
        heard[kind] = (rows, made)
    return dataclasses.replace(cached, heard=heard)


def as_input(maps: np.ndarray) -> torch.Tensor:
    """Maps (N, H, W, 3) uint8 as a ControlNet takes them: (N, 3, H, W) from 0 to 1."""
    return torch.from_numpy(np.array(maps)).permute(0, 3, 1, 2) / 255


def encoder_copy(model: LatentModel) -> ControlNetModel:
    """A ControlNet that starts as the model's own encoder, with maps at the size of its pictures."""
    strides = model.factor.bit_length()
    network = ControlNetModel.from_unet(
        model.unet, conditioning_embedding_out_channels=EMBEDDING[:strides], load_weights_from_unet=False
    )
    # diffusers' own copying fails on cond_proj, which a ControlNet does not have and Pocket does not yet use.
    ours = model.unet.state_dict()
    shared = {name: ours[name] for name in network.state_dict() if name in ours}
    network.load_state_dict(shared, strict=False)
    return network.requires_grad_(True).train()


@torch.no_grad()
def waken(embedding: torch.nn.Module, maps: torch.Tensor) -> None:
    """Draw a map's encoder anew so that every layer hands maps (N, 3, H, W) on at unit variance.

    As diffusers initialises it, a thousandth of a skeleton is left after its layers, and nothing is learned
    of the map for tens of thousands of samples. After Mishkin and Matas 2016, arXiv:1511.06422, section 2.
    """
    for layer in (embedding.conv_in, *embedding.blocks):
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        answer = layer(maps)
        mean, spread = answer.mean((0, 2, 3)), answer.std((0, 2, 3)) + 1e-4
        layer.weight.div_(spread[:, None, None, None])
        layer.bias.copy_(-mean / spread)
        maps = F.silu(layer(maps))


class Led(torch.nn.Module):
    """A U-Net and the ControlNet that leads it; with `unlock` the U-Net's decoder learns along.

    The first layers of the map's encoder, which work on whole pictures and so cost more than all the rest,
    stay as `waken` drew them: what they hear of each map is computed once.
    """

    def __init__(self, model: LatentModel, unlock: bool):
        super().__init__()
        self.control, self.unet = encoder_copy(model), copy.deepcopy(model.unet).requires_grad_(False)
        self.ear, self.control.controlnet_cond_embedding = (
            self.control.controlnet_cond_embedding,
            torch.nn.Identity(),
        )
        for layer in (self.ear.conv_in, *self.ear.blocks[:-TRAINED]):
            layer.requires_grad_(False)
        if unlock:
            for name in ("mid_block", "up_blocks", "conv_norm_out", "conv_out"):
                getattr(self.unet, name).requires_grad_(True)

    def first_layers(self, maps: torch.Tensor) -> torch.Tensor:
        """What the layers that stay as they are make of maps (B, 3, H, W): (B, c, 2h, 2w)."""
        for layer in (self.ear.conv_in, *self.ear.blocks[:-TRAINED]):
            maps = F.silu(layer(maps))
        return maps

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor, heard: torch.Tensor
    ) -> torch.Tensor:
        """Predict ε for noisy (B, C, h, w) from states (B, tokens, width) and what `first_layers` made."""
        for layer in self.ear.blocks[-TRAINED:]:
            heard = F.silu(layer(heard))
        heard = self.ear.conv_out(heard)
        down, middle = self.control(noisy, timesteps, states, heard, return_dict=False)
        return self.unet(
            noisy,
            timesteps,
            states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]

    def controlnet(self) -> ControlNetModel:
        """The ControlNet whole, as diffusers knows it; this network is of no use afterwards."""
        self.control.controlnet_cond_embedding = self.ear
        return self.control


def batch(
    cached: Cached, n: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n scenes' latents, text states with 30% of the captions dropped, and what is heard of their maps."""
    kinds = list(cached.heard)
    shares = np.array([SHARES[kind] for kind in kinds])
    rows, heard = [], []
    for kind in rng.choice(kinds, n, p=shares / shares.sum()):
        of, made = cached.heard[kind]
        i = int(rng.integers(len(of)))
        rows.append(int(of[i]))
        heard.append(made[i])
    which = rng.integers(0, cached.text.shape[1], n)
    text = np.stack([cached.text[row, i] for row, i in zip(rows, which, strict=True)]).astype(np.float32)
    dropped = torch.from_numpy(rng.random(n) < NO_CAPTION)[:, None, None]
    states = torch.where(dropped, torch.from_numpy(cached.empty.copy()), torch.from_numpy(text))
    latents = torch.from_numpy(np.stack([cached.latents[row] for row in rows]).astype(np.float32))
    return latents, states, torch.from_numpy(np.stack(heard).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how hard to train, and what."""

    kinds: Sequence[str] = tuple(SHARES)
    steps: int = 2600
    batch_size: int = 16
    peak: float = 3e-4
    decay: float = 0.3
    unlock: bool = False
    seed: int = 0


def train(base: Path, data: Path, folder: Path, plan: Plan) -> None:
    """Train until `plan.steps`, going on from `folder/control.pt` where it exists."""
    torch.manual_seed(plan.seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = load(card_for_folder(base), "cpu", "float32")
    cached = cache(data, folder, model)
    network = Led(model, plan.unlock)
    waken(network.ear, as_input(np.concatenate([maps_of(data, kind, 32)[1] for kind in plan.kinds])))
    cached = listen(cached, data, folder, network, plan.kinds)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [weight for weight in network.parameters() if weight.requires_grad],
        lr=plan.peak, betas=(0.9, 0.95), weight_decay=0.01, fused=True,
    )  # fmt: skip
    state = resume_run(folder / "control.pt", network, average, optimizer)
    first, seen = state.get("step", 0), state.get("samples", 0)
    alphas_cumprod = torch.tensor(model.noise_schedule.alphas_cumprod, dtype=torch.float32)
    no_class = None if model.classes is None else model.classes(None)
    started, saved, running = time.time(), time.time(), None
    for step in range(first, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, plan.peak, plan.decay)
        rng = np.random.default_rng((plan.seed, step))  # its own, as the step's other generator is
        latents, states, heard = batch(cached, plan.batch_size, rng)
        if no_class is not None:
            states = torch.cat([states, no_class.expand(plan.batch_size, -1, -1)], 1)
        plain = train_on_epsilon(
            network, average, optimizer, partial(network, states=states, heard=heard),
            latents, alphas_cumprod, step, plan.seed,
        )  # fmt: skip
        seen += plan.batch_size
        running = plain if running is None else 0.98 * running + 0.02 * plain
        if (step + 1) % 50 == 0:
            pace = (time.time() - started) / (step + 1 - first)
            print(f"step {step + 1} samples {seen} loss {running:.4f} {pace:.3f} s/step", flush=True)
        if time.time() - saved > 300 or step + 1 == plan.steps:
            save_run(folder / "control.pt", network, average, optimizer, step=step + 1, samples=seen)
            saved = time.time()


def export(base: Path, folder: Path, kinds: Sequence[str], facts: dict[str, Any]) -> Path:
    """Write the averaged weights to `base/controlnet/<kinds>`, replacing what is there; return that folder.

    What of the U-Net was trained along goes to `decoder` in it.
    """
    state = load_state(folder / "control.pt")
    if state is None:
        raise FileNotFoundError(f"{folder} lacks control.pt: train it first")
    model = load(card_for_folder(base), "cpu", "float32")
    network = Led(model, unlock=False)
    network.load_state_dict(state["average"])
    ours = model.unet.state_dict()
    learned = {k: v for k, v in network.unet.state_dict().items() if not torch.equal(v, ours[k])}
    out = base / CONTROLNETS / "-".join(kinds)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    control = network.controlnet()
    control.save_config(part)
    save_in_shards(part, control.state_dict())
    if learned:
        (part / DECODER).mkdir()
        save_in_shards(part / DECODER, learned)
    trained = {"steps": state["step"], "samples": state["samples"], "unet": fingerprint(base / "unet")}
    name = f"Pocket, ControlNet for {', '.join(kinds)}"
    write_manifest(part, {"name": name, "licence": "Apache-2.0", "training": {**trained, **facts}})
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("train", "export"))
    parser.add_argument("--kinds", choices=tuple(MAPS), nargs="+", default=tuple(MAPS))
    parser.add_argument("--unlock", action="store_true", help="train the base's decoder along")
    parser.add_argument("--base", type=Path, default=Path("assets/pocket"), help="the family to control")
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland/scenes"), help="scenes of modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--batch-size", type=int, default=Plan.batch_size)
    parser.add_argument("--learning-rate", type=float, default=Plan.peak)
    parser.add_argument(
        "--decay", type=float, default=Plan.decay, help="share of the steps in which the learning rate falls"
    )
    parser.add_argument(
        "--facts", type=json.loads, default={}, help="JSON to keep in the manifest: commands, hours"
    )
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = args.run / f"control-{'-'.join(args.kinds)}"
    if args.stage == "export":
        print(export(args.base, folder, args.kinds, args.facts))
        return
    plan = Plan(
        kinds=args.kinds, steps=args.steps, batch_size=args.batch_size, peak=args.learning_rate,
        decay=args.decay, unlock=args.unlock,
    )  # fmt: skip
    train(args.base, args.data, folder, plan)


if __name__ == "__main__":
    main()
