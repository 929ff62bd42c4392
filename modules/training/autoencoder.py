"""The autoencoder of Pocket: 256-pixel pictures to 16x16x8 latents of unit variance, and back.

    python -m modules.training.autoencoder --steps 1400

The network is diffusers' `AutoencoderDC` (Chen et al. 2024, arXiv:2410.10733), much smaller than usual.
Beside the pixels it is asked that the decoder follow a flip or a halving of the latents (Kouzelis et al.
2025, arXiv:2502.09509), which makes the latent space smoother and so easier to diffuse in.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from PIL import Image

from modules.training.checkpoint import resume_run, save_run, update_average
from modules.training.precision import precision

CONFIG = {
    "in_channels": 3,
    "latent_channels": 8,
    "encoder_block_out_channels": (32, 32, 64, 128, 256),
    "decoder_block_out_channels": (32, 32, 64, 128, 256),
    "encoder_layers_per_block": (0, 1, 2, 2, 2),
    "decoder_layers_per_block": (0, 2, 2, 3, 3),
    "encoder_qkv_multiscales": ((), (), (), (), ()),
    "decoder_qkv_multiscales": ((), (), (), (), ()),
    "decoder_act_fns": "silu",
    "decoder_conv_act_fn": "silu",  # the default, ReLU, died here: one live channel, and grey pictures
    "scaling_factor": 1.0,
}
STYLE_WEIGHTS = {"3d": 0.6, "flat": 0.14, "cartoon": 0.2, "line": 0.06}
HELD_OUT_EVERY = 25  # every 25th thing is never shown to the autoencoder, in any style
LATENT_NOISE = 0.05


class Pictures:
    """Crops of icons on painted grounds and of ray-cast scenes, endless; `rng` decides what comes next."""

    def __init__(self, data: Path, size: int):
        self.icons = np.load(data / "icons.npy", mmap_mode="r")
        rows = json.loads((data / "icons.json").read_text())
        order = {code: i for i, code in enumerate(dict.fromkeys(row["code"] for row in rows))}
        held = np.array([order[row["code"]] % HELD_OUT_EVERY == 0 for row in rows])
        self.by_style = {
            s: [i for i, r in enumerate(rows) if r["style"] == s and not held[i]] for s in STYLE_WEIGHTS
        }
        self.held_out = [i for i, r in enumerate(rows) if r["style"] == "3d" and held[i]]
        scenes = data / "scenes" / "rgb.npy"
        self.scenes = np.load(scenes, mmap_mode="r") if scenes.exists() else None
        self.size, self.rng = size, np.random.default_rng(0)

    def ground(self, size: int) -> np.ndarray:
        """Paint a plain or gently graded ground, (size, size, 3) float32 in 0..255."""
        rng = self.rng
        if rng.random() < 0.3:
            return np.full((size, size, 3), 255 if rng.random() < 0.7 else rng.integers(0, 255), np.float32)
        a, b = rng.uniform(0, 255, (2, 3)).astype(np.float32)
        b = a + (b - a) * np.float32(rng.choice([0, 0.3, 1]))
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
        t = (x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle)) + 0.5)[..., None]
        return a + (b - a) * t

    def icon(self) -> np.ndarray:
        rng, size = self.rng, self.size
        style = rng.choice(list(STYLE_WEIGHTS), p=list(STYLE_WEIGHTS.values()))
        rgba = self.icons[rng.choice(self.by_style[style])]
        if rng.random() < 0.5:
            side = int(size * rng.uniform(0.45, 2.0)) if size < 256 else int(256 * rng.uniform(0.35, 1.0))
            rgba = np.asarray(Image.fromarray(rgba).resize((side, side), Image.Resampling.BILINEAR))
        side = rgba.shape[0]
        top, left = rng.integers(min(0, size - side), max(0, size - side) + 1, 2)
        canvas = self.ground(size)
        # The overlap of the icon, laid at (top, left), with the canvas.
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, size), min(left + side, size)
        piece = rgba[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
        alpha = piece[..., 3:] / 255
        canvas[y0:y1, x0:x1] += alpha * (piece[..., :3] - canvas[y0:y1, x0:x1])
        return canvas

    def scene(self) -> np.ndarray:
        picture = self.scenes[self.rng.integers(len(self.scenes))]
        top, left = self.rng.integers(0, 256 - self.size + 1, 2)
        return picture[top : top + self.size, left : left + self.size].astype(np.float32)

    def batch(self, n: int) -> torch.Tensor:
        """Draw n pictures, (n, 3, size, size) float32 in -1..1, some flipped, some with channels shuffled."""
        out = np.empty((n, self.size, self.size, 3), np.float32)
        for i in range(n):
            picture = self.scene() if self.scenes is not None and self.rng.random() < 0.18 else self.icon()
            if self.rng.random() < 0.5:
                picture = picture[:, ::-1]
            if self.rng.random() < 0.5:
                picture = picture[..., self.rng.permutation(3)]
            out[i] = picture
        return torch.from_numpy(out / 127.5 - 1).permute(0, 3, 1, 2)

    def held_out_batch(self, n: int) -> torch.Tensor:
        """The first n held-out 3D icons on white at 256 pixels, for scores."""
        rgba = np.stack([self.icons[i] for i in self.held_out[:n]]).astype(np.float32)
        alpha = rgba[..., 3:] / 255
        return torch.from_numpy((255 + alpha * (rgba[..., :3] - 255)) / 127.5 - 1).permute(0, 3, 1, 2)


def gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the horizontal and vertical gradients: what makes an edge crisp."""
    d = a - b
    return (d[..., 1:, :] - d[..., :-1, :]).abs().mean() + (d[..., 1:] - d[..., :-1]).abs().mean()


def training_loss(network: AutoencoderDC, pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Reconstruct pictures (B, 3, H, W) through noised latents, some of them flipped or halved on the way."""
    latents = network.encode(pictures).latent.float()
    mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
    unit = (mean**2).mean() + (variance.clamp_min(1e-4).log() ** 2).mean()
    latents = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
    turn = torch.rand((), generator=generator).item()
    if turn < 0.1:
        latents, pictures = latents.flip(-1), pictures.flip(-1)
    elif turn < 0.25:
        latents, pictures = F.avg_pool2d(latents, 2), F.avg_pool2d(pictures, 2)
    decoded = network.decode(latents).sample.float()
    return F.l1_loss(decoded, pictures) + gradient_loss(decoded, pictures) + 0.02 * unit


@torch.no_grad()
def psnr(network: AutoencoderDC, pictures: torch.Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions of pictures in -1..1, rounded to 8 bits."""
    scores = []
    for batch in pictures.split(8):
        decoded = network.decode(network.encode(batch).latent).sample.clamp(-1, 1)
        decoded = ((decoded + 1) * 127.5).round() / 127.5 - 1
        scores += (20 * math.log10(2) - 10 * (decoded - batch).pow(2).mean((1, 2, 3)).log10()).tolist()
    return sum(scores) / len(scores)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm up over 100 steps, hold, then fall linearly to 3% over the last 40%."""
    return peak * min(1.0, (step + 1) / 100, 0.03 + 0.97 * (steps - step) / (0.4 * steps))


def train(data: Path, run: Path, steps: int, batch_size: int, size: int, peak: float, seed: int = 0) -> None:
    torch.manual_seed(seed)
    network = AutoencoderDC(**CONFIG).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    first = resume_run(run / "autoencoder.pt", network, average, optimizer).get("step", 0)
    pictures, started, saved, running = Pictures(data, size), time.time(), time.time(), 0.0
    judged = pictures.held_out_batch(24)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        # Every step has its own generators, so that a resumed run draws what an uninterrupted one would.
        pictures.rng = np.random.default_rng((seed, step))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        batch = pictures.batch(batch_size).to(memory_format=torch.channels_last)
        with precision():
            loss = training_loss(network, batch, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(average, network, min(0.998, (step + 1) / (step + 10)))
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            pace = (time.time() - started) / (step + 1 - first)
            print(
                f"step {step + 1} loss {running:.4f} {pace:.3f} s/step",
                flush=True,
            )
        if (step + 1) % 250 == 0 or step + 1 == steps:
            print(
                f"step {step + 1} PSNR {psnr(average, judged):.2f} dB on {len(judged)} held-out 3D icons",
                flush=True,
            )
        if time.time() - saved > 300 or step + 1 == steps:
            save_run(run / "autoencoder.pt", network, average, optimizer, step=step + 1, size=size)
            saved = time.time()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland"), help="made by modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder of the training state")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--size", type=int, default=128, help="side of the training crops in pixels")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    args = parser.parse_args()
    train(args.data, args.run, args.steps, args.batch_size, args.size, args.learning_rate)


if __name__ == "__main__":
    main()
