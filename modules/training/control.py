"""A ControlNet of Pocket: a copy of its encoder learns to keep the frozen U-Net to a pose or a depth map.

    python -m modules.training.control train --kind pose --steps 4000
    python -m modules.training.control export --kind pose

The base is the family that ships (assets/pocket), so train that first. Zero convolutions: Zhang et al. 2023,
arXiv:2302.05543, section 3.1. Loss: mean squared error of ε with min-SNR-5 weights, as the base's own.
"""

import argparse
import copy
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel

from modules.conditions.depth import depth_map
from modules.conditions.pose import draw
from modules.models.catalog import CONTROLNETS, card_for_folder
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


def maps_of(data: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Which scenes have a map of that kind, and the maps, (N, H, W, 3) uint8."""
    if kind == "depth":
        depths = np.load(data / "depth.npy", mmap_mode="r")
        return np.arange(len(depths)), np.stack([np.asarray(depth_map(depth)) for depth in depths])
    size = np.load(data / "rgb.npy", mmap_mode="r").shape[1]
    drawn = [
        pose_map(keypoints, size, hidden=i % 2 == 0)
        for i, keypoints in enumerate(np.load(data / "keypoints.npy"))
    ]
    rows = [i for i, one in enumerate(drawn) if one is not None]
    return np.array(rows), np.stack([drawn[i] for i in rows])


def cache(data: Path, folder: Path, kind: str, model: LatentModel) -> dict[str, np.ndarray]:
    """Latents (N, C, h, w), text states (N, captions, tokens, width) and maps of the scenes, made once.

    What an autoencoder or a text encoder of other weights made, or another number of scenes, is made again.
    """
    scenes, captions = (
        np.load(data / "rgb.npy", mmap_mode="r"),
        json.loads((data / "captions.json").read_text()),
    )
    facts = {"base": model.hash, "scenes": len(scenes)}
    parts = ("latents", "text", "maps", "empty")
    done = folder / "cache.json"
    if not done.exists() or json.loads(done.read_text()) != facts:
        done.unlink(missing_ok=True)
        rows, maps = maps_of(data, kind)
        latents = [
            model.encode(torch.from_numpy(scenes[rows[i : i + BATCH]]).permute(0, 3, 1, 2) / 127.5 - 1)
            for i in range(0, len(rows), BATCH)
        ]
        # What is beyond the first window was cut off when the base was trained, too.
        states = [
            torch.cat([one.states[:, :TOKENS].half() for one in model.text(captions[row])]) for row in rows
        ]
        made = (torch.cat(latents).half(), torch.stack(states), maps, model.text([""])[0].states)
        for name, array in zip(parts, made, strict=True):
            np.save(folder / f"{name}.npy", np.asarray(array))
        done.write_text(json.dumps(facts))
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in parts}


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


def batch(
    cached: dict[str, np.ndarray], n: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n scenes' latents, text states with 30% of the captions dropped, and maps (n, 3, H, W) from 0 to 1."""
    rows = np.sort(rng.integers(0, len(cached["latents"]), n))
    which = rng.integers(0, cached["text"].shape[1], n)
    text = torch.from_numpy(
        np.stack([cached["text"][row, i] for row, i in zip(rows, which, strict=True)])
    ).float()
    dropped = torch.from_numpy(rng.random(n) < NO_CAPTION)[:, None, None]
    text = torch.where(dropped, torch.from_numpy(cached["empty"].copy()), text)
    latents = torch.from_numpy(cached["latents"][rows]).float()
    return latents, text, torch.from_numpy(cached["maps"][rows]).permute(0, 3, 1, 2) / 255


def predicted(
    model: LatentModel,
    control: torch.nn.Module,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    states: torch.Tensor,
    maps: torch.Tensor,
) -> torch.Tensor:
    """What the frozen U-Net says with the ControlNet's help; gradients reach the ControlNet alone."""
    down, middle = control(noisy, timesteps, states, maps, return_dict=False)
    return model.unet(
        noisy,
        timesteps,
        states,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0]


def train(
    base: Path,
    data: Path,
    folder: Path,
    kind: str,
    steps: int,
    batch_size: int,
    peak: float,
    decay: float,
    *,
    seed: int = 0,
) -> None:
    """Train until `steps`, going on from `folder/control.pt` where it exists."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = load(card_for_folder(base), "cpu", "float32")
    cached = cache(data, folder, kind, model)
    network = encoder_copy(model)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    state = resume_run(folder / "control.pt", network, average, optimizer)
    first, seen = state.get("step", 0), state.get("samples", 0)
    alphas_cumprod = torch.tensor(model.noise_schedule.alphas_cumprod, dtype=torch.float32)
    no_class = None if model.classes is None else model.classes(None)
    started, saved, running = time.time(), time.time(), None
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, decay)
        rng = np.random.default_rng((seed, step))  # its own, as the step's other generator is
        latents, states, maps = batch(cached, batch_size, rng)
        if no_class is not None:
            states = torch.cat([states, no_class.expand(batch_size, -1, -1)], 1)
        plain = train_on_epsilon(
            network, average, optimizer, partial(predicted, model, network, states=states, maps=maps),
            latents, alphas_cumprod, step, seed,
        )  # fmt: skip
        seen += batch_size
        running = plain if running is None else 0.98 * running + 0.02 * plain
        if (step + 1) % 50 == 0:
            pace = (time.time() - started) / (step + 1 - first)
            print(f"step {step + 1} samples {seen} loss {running:.4f} {pace:.3f} s/step", flush=True)
        if time.time() - saved > 300 or step + 1 == steps:
            save_run(folder / "control.pt", network, average, optimizer, step=step + 1, samples=seen)
            saved = time.time()


def export(base: Path, folder: Path, kind: str, facts: dict[str, Any]) -> Path:
    """Write the averaged weights to `base/controlnet/kind`, replacing what is there; returns that folder."""
    state = load_state(folder / "control.pt")
    if state is None:
        raise FileNotFoundError(f"{folder} lacks control.pt: train it first")
    model = load(card_for_folder(base), "cpu", "float32")
    network = encoder_copy(model)
    network.load_state_dict(state["average"])
    out = base / CONTROLNETS / kind
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    network.save_config(part)
    save_in_shards(part, network.state_dict())
    trained = {"steps": state["step"], "samples": state["samples"], "unet": fingerprint(base / "unet")}
    about = {"name": f"Pocket, {kind} ControlNet", "licence": "Apache-2.0", "training": {**trained, **facts}}
    write_manifest(part, about)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("train", "export"))
    parser.add_argument("--kind", choices=("pose", "depth"), required=True)
    parser.add_argument("--base", type=Path, default=Path("assets/pocket"), help="the family to control")
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland/scenes"), help="scenes of modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument(
        "--decay", type=float, default=0.3, help="share of the steps in which the learning rate falls"
    )
    parser.add_argument(
        "--facts", type=json.loads, default={}, help="JSON to keep in the manifest: commands, hours"
    )
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = args.run / f"control-{args.kind}"
    if args.stage == "export":
        print(export(args.base, folder, args.kind, args.facts))
        return
    train(
        args.base, args.data, folder, args.kind, args.steps, args.batch_size, args.learning_rate, args.decay
    )


if __name__ == "__main__":
    main()
