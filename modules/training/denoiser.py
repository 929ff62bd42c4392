"""The ε-prediction U-Net of Pocket, trained on cached latents with text and class tokens.

    python -m modules.training.denoiser --steps 3600

Loss: mean squared error of ε with min-SNR-5 weights (Hang et al. 2023, arXiv:2303.09556, section 3.4).
"""

import argparse
import copy
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from modules.diffusion.schedule import STABLE_DIFFUSION
from modules.training.checkpoint import resume_run, save_run, update_average
from modules.training.precision import precision
from modules.training.text import TOKENS
from modules.training.toyland.emoji import CLASSES

CONFIG = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (96, 160, 256),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 384,
    "norm_num_groups": 16,
    "attention_head_dim": (3, 5, 8),  # in this class: the number of heads, so 32 channels a head
    "time_cond_proj_dim": 64,  # unused until a guidance-distilled student needs it
}
NO_CAPTION, NO_CLASS, CLASS_ONLY = 0.1, 0.45, 0.15


class Pocket(torch.nn.Module):
    """The two trained parts that must agree: the U-Net, and the class tokens (the last one for no class)."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**{**CONFIG, **changes})
        self.class_tokens = torch.nn.Embedding(len(CLASSES) + 1, self.unet.config["cross_attention_dim"])
        torch.nn.init.zeros_(self.unet.time_embedding.cond_proj.weight)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Predict ε for noisy (B, 8, 16, 16) from text (B, 32, 384) and class indices (B,)."""
        tokens = torch.cat([text, self.class_tokens(classes)[:, None]], 1)
        return self.unet(noisy, timesteps, tokens).sample


class Chunks:
    """The cached pictures, gathered in memory as their chunks appear on disk."""

    def __init__(self, folder: Path):
        self.folder, self.names = folder, set()
        self.latents, self.text, self.classes, self.plain = [], [], [], []

    def refresh(self) -> int:
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            if path.name not in self.names and not path.name.endswith(".part.npz"):
                chunk = np.load(path)
                self.latents.append(chunk["latents"])
                self.text.append(chunk["text"])
                self.classes.append(chunk["classes"])
                self.plain.append(chunk["plain"])
                self.names.add(path.name)
        return sum(map(len, self.latents))

    def batch(
        self, n: int, rng: np.random.Generator, class_share: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw n pictures' latents, text, classes and whether they are plain.

        A share of `class_share` is sure to have a class.

        An early share of simple pictures is a curriculum: one thing alone is learned sooner than three.
        """
        size = len(self.latents[0])
        wanted = rng.random(n) < class_share
        rows = []
        while len(rows) < n:
            c, i = divmod(int(rng.integers(0, size * len(self.latents))), size)
            if not wanted[len(rows)] or self.classes[c][i] >= 0:
                rows.append((c, i))
        latents = np.stack([self.latents[c][i] for c, i in rows]).astype(np.float32)
        text = np.stack([self.text[c][i, rng.integers(self.text[c].shape[1])] for c, i in rows])
        classes = np.array([self.classes[c][i] for c, i in rows], np.int64)
        plain = np.array([self.plain[c][i] for c, i in rows], bool)
        return (
            torch.from_numpy(latents),
            torch.from_numpy(text.astype(np.float32)),
            torch.from_numpy(classes),
            torch.from_numpy(plain),
        )


def drop_conditions(
    text: torch.Tensor,
    classes: torch.Tensor,
    plain: torch.Tensor,
    empty: torch.Tensor,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blank captions and classes at random, so that each is learned alone, together and not at all.

    A class stands alone only beside plain pictures: it must not promise a green apple.
    """
    draw = torch.from_numpy(rng.random((2, len(classes))))
    known = classes >= 0
    class_only = known & plain & (draw[0] < CLASS_ONLY)
    blank = class_only | (~known & (draw[0] < NO_CAPTION)) | (known & (draw[0] > 1 - NO_CAPTION))
    text = torch.where(blank[:, None, None], empty, text)
    dropped = ~known | (blank & ~plain) | (~class_only & (draw[1] < NO_CLASS))
    return text, torch.where(dropped, len(CLASSES), classes)


def learning_rate(step: int, steps: int, peak: float, decay: float) -> float:
    """Warm up over 200 steps, hold, then fall linearly to 3% over the last `decay` share of the steps."""
    return peak * min(1.0, (step + 1) / 200, 0.03 + 0.97 * (steps - step) / (decay * steps))


def min_snr_weight(alphas_cumprod: torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
    """Weight of the ε-loss at each level: min(SNR, gamma) / SNR."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return snr.clamp(max=gamma) / snr


def train_on_epsilon(
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    step: int,
    seed: int,
) -> float:
    """One step of a network and its average on ε of latents (B, C, h, w); returns the mean squared error.

    `predict(noisy, timesteps)` is what the network says of noised latents. Every step has its own generator,
    so that a resumed run draws what an uninterrupted one would.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    timesteps = torch.randint(0, len(alphas_cumprod), (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    level = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
    # At 33 tokens the plain attention is twice as fast to differentiate on a CPU as the fused one.
    with sdpa_kernel(SDPBackend.MATH):
        with precision():
            predicted = predict(noisy, timesteps)
        errors = (predicted.float() - noise).pow(2).mean((1, 2, 3))
        (errors * min_snr_weight(alphas_cumprod[timesteps])).mean().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    update_average(average, network, min(0.9993, (step + 1) / (step + 10)))
    return errors.mean().item()


def train(
    run: Path,
    steps: int,
    batch_size: int,
    peak: float,
    decay: float,
    *,
    class_share: float = 0.0,
    seed: int = 0,
    **changes: Any,
) -> None:
    """Train until `steps`, going on from `run/denoiser.pt` where it exists; `changes` go into the config.

    `run/words.npz` holds the text states of no words, `empty` (1, 32, 384), and where each class token
    begins, `classes` (classes + 1, 384).
    """
    torch.manual_seed(seed)
    words = np.load(run / "words.npz")
    empty = torch.from_numpy(words["empty"])
    assert empty.shape[1] == TOKENS
    network = Pocket(**changes)
    with torch.no_grad():
        network.class_tokens.weight.copy_(torch.from_numpy(words["classes"]))
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    state = resume_run(run / "denoiser.pt", network, average, optimizer)
    first, seen = state.get("step", 0), state.get("samples", 0)
    chunks = Chunks(run / "latents")
    while not chunks.refresh():
        time.sleep(5)
    alphas_cumprod = torch.tensor(STABLE_DIFFUSION.alphas_cumprod, dtype=torch.float32)

    def save(name: str, step: int) -> None:
        save_run(run / name, network, average, optimizer, step=step, samples=seen)

    started, saved, running = time.time(), time.time(), None
    for step in range(first, steps):
        if step % 100 == 0:
            chunks.refresh()
        if step == int(steps * (1 - decay)):
            save("denoiser-undecayed.pt", step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, decay)
        rng = np.random.default_rng((seed, step))  # its own, as the step's other generator is
        latents, text, classes, plain = chunks.batch(batch_size, rng, class_share)
        text, classes = drop_conditions(text, classes, plain, empty, rng)
        error = train_on_epsilon(
            network, average, optimizer, partial(network, text=text, classes=classes),
            latents, alphas_cumprod, step, seed,
        )  # fmt: skip
        seen += batch_size
        running = error if running is None else 0.98 * running + 0.02 * error
        if (step + 1) % 50 == 0:
            pace = (time.time() - started) / (step + 1 - first)
            print(
                f"step {step + 1} samples {seen} loss {running:.4f} {pace:.3f} s/step",
                flush=True,
            )
        if time.time() - saved > 300 or step + 1 == steps:
            save("denoiser.pt", step + 1)
            saved = time.time()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, default=Path("runs/pocket"), help="folder with latents/ and the training state"
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument(
        "--decay", type=float, default=0.3, help="share of the steps in which the learning rate falls"
    )
    parser.add_argument("--class-share", type=float, default=0.0, help="at least this share has a class")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    train(args.run, args.steps, args.batch_size, args.learning_rate, args.decay, class_share=args.class_share)


if __name__ == "__main__":
    main()
