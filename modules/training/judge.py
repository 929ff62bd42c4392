"""The network that names the thing in a picture, trained on Toyland so that Pocket can be scored.

python -m modules.training.judge --run RUN
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from modules.training.checkpoint import load_state, save_state
from modules.training.denoiser import Chunks
from modules.training.precision import precision
from modules.training.toyland.emoji import CLASSES


class Judge(nn.Module):
    """Latents (B, 8, 16, 16) of a picture with one thing -> scores of the classes (B, classes)."""

    def __init__(self) -> None:
        super().__init__()

        def stage(a: int, b: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, stride, 1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
                nn.Conv2d(b, b, 3, 1, 1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
            )

        self.body = nn.Sequential(stage(8, 96, 1), stage(96, 160, 2), stage(160, 256, 2))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(256, len(CLASSES)))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(latents).mean((2, 3)))


def load_judge(path: Path) -> tuple[Judge, dict[str, float | int]] | None:
    """The trained judge and how often it is itself right on true pictures; None where there is none."""
    if (state := load_state(path)) is None:
        return None
    judge = Judge()
    judge.load_state_dict(state["judge"])
    own = {"right": round(state["accuracy"], 3), "pictures": state["pictures"]}
    return judge.eval().requires_grad_(False), own


def train(run: Path, steps: int, batch_size: int, seed: int = 0) -> None:
    """Train on the cached chunks but the last, which is kept to score the judge itself on true pictures."""
    torch.manual_seed(seed)
    chunks = Chunks(run / "latents")
    chunks.refresh()
    known = [torch.from_numpy(classes >= 0) for classes in chunks.classes]
    latents = [torch.from_numpy(x)[k].float() for x, k in zip(chunks.latents, known, strict=True)]
    labels = [torch.from_numpy(c)[k].long() for c, k in zip(chunks.classes, known, strict=True)]
    x, y = torch.cat(latents[:-1]), torch.cat(labels[:-1])
    judge = Judge().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(len(x), (batch_size,))
        # Noise and small shifts, so that the judge looks at shapes and not at the texture of the encoder.
        batch = x[rows] + 0.3 * torch.rand(batch_size, 1, 1, 1) * torch.randn(batch_size, *x.shape[1:])
        batch = batch.roll((int(torch.randint(-2, 3, ())), int(torch.randint(-2, 3, ()))), (2, 3))
        with precision():
            scores = judge(batch.to(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(scores.float(), y[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} loss {loss.item():.3f}", flush=True)
    judge.eval()
    with torch.no_grad():
        right = (judge(latents[-1]).argmax(1) == labels[-1]).float().mean().item()
    print(f"{right:.1%} of {len(labels[-1])} true pictures that it never saw are named right")
    save_state(
        run / "judge.pt", {"judge": judge.state_dict(), "accuracy": right, "pictures": len(labels[-1])}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    train(args.run, args.steps, args.batch_size)


if __name__ == "__main__":
    main()
