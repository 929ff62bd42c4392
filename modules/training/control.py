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
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetModel

from modules.models.catalog import CONTROLNETS, card_for_folder
from modules.models.controls import DECODER
from modules.models.files import fingerprint
from modules.models.latent import LatentModel
from modules.models.loading import load
from modules.training.checkpoint import load_state, resume_run, save_run
from modules.training.denoiser import learning_rate, train_on_epsilon
from modules.training.export import save_in_shards, write_manifest
from modules.training.scene_cache import MAPS, SHARES, as_input, batch, cache, listen, maps_of

EMBEDDING = (8, 16, 32, 64, 128)  # widths of the map's own encoder; each but the first halves its side
TRAINED = 2  # of the layers of the map's own encoder, so many at the end learn


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
    cached = listen(cached, data, folder, network.first_layers, plan.kinds)
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
