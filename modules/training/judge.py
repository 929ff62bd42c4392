"""The network that names things and styles, trained on Toyland's icons so that Pocket can be scored.

    python -m modules.training.judge

It never sees a latent nor the autoencoder: it looks at icons on grounds of any colour, turned, stretched,
recoloured and blurred. It is then tried on whole true pictures that hold what nobody trains on, found in
them as it is found in painted ones.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from modules.training.export import write_manifest
from modules.training.scores import truth
from modules.training.scores.judge import FOLDER, SIDE, Eyes, Judge
from modules.training.toyland.colours import FILLS
from modules.training.toyland.emoji import CLASSES, STYLES

ROOM = 1.3  # sides of an icon that its cached square has
CACHED = 64
PEAK = 3e-3
BATCH = 128
SHARES = {"3d": 0.4, "flat": 0.2, "cartoon": 0.2, "line": 0.2}


class Icons:
    """The icons of CLASSES, cut to what they hold, as squares of premultiplied RGBA with room around."""

    def __init__(self, data: Path):
        rows = json.loads((data / "icons.json").read_text("utf-8"))
        kept = [i for i, row in enumerate(rows) if row["label"] in CLASSES]
        drawn = np.load(data / "icons.npy", mmap_mode="r")
        self.pixels = torch.from_numpy(np.stack([cut(drawn[i]) for i in kept]))
        self.things = torch.tensor([CLASSES.index(rows[i]["label"]) for i in kept])
        self.styles = torch.tensor([STYLES.index(rows[i]["style"]) for i in kept])
        self.weights = torch.tensor([SHARES[rows[i]["style"]] for i in kept])
        self.names = {row["label"]: row["names"] for row in rows}

    def batch(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """n pictures (n, 3, 48, 48) from -1 to 1, and the drawing in each (n,)."""
        rows = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        icons = self.pixels[rows].permute(0, 3, 1, 2).float() / 255
        drawings = self.things[rows] * len(STYLES) + self.styles[rows]
        return on_grounds(icons, self.styles[rows], generator), drawings


def cut(rgba: np.ndarray) -> np.ndarray:
    """An icon (H, W, 4) cut to a square around what it holds, premultiplied, (64, 64, 4) uint8."""
    icon = Image.fromarray(np.asarray(rgba), "RGBA").convert("RGBa")
    left, top, right, bottom = icon.getchannel("a").point(lambda a: 255 * (a > 8)).getbbox() or (0, 0, 1, 1)
    side = max(right - left, bottom - top) * ROOM
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    box = tuple(round(v) for v in (x, y, x + side, y + side))
    return np.asarray(icon.crop(box).resize((CACHED, CACHED), Image.Resampling.BOX))


def on_grounds(icons: torch.Tensor, styles: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Premultiplied icons (n, 4, 64, 64), recoloured and bent, on grounds: (n, 3, 48, 48) from -1 to 1."""
    n = len(icons)

    def draw(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    def fills() -> torch.Tensor:
        words = torch.tensor(list(FILLS.values())) / 255
        one = words[torch.randint(len(words), (n,), generator=generator)]
        return torch.where(draw(1) < 0.5, one, draw(3))[..., None, None]

    icons = F.grid_sample(icons, bent(n, generator), padding_mode="zeros", align_corners=False)
    colour, alpha = icons[:, :3], icons[:, 3:]
    line = (styles == STYLES.index("line")).view(-1, 1, 1, 1)
    turned = torch.where((draw() < 0.6).view(-1, 1, 1, 1), recoloured(colour, draw(3)), colour)
    colour = torch.where(line, alpha * fills() * (draw(1, 1, 1) < 0.6), turned)
    ground = fills().expand(n, 3, SIDE, SIDE)
    ground = torch.where(draw(1, 1, 1) < 0.3, torch.full_like(ground, 0.98), ground)
    ground = ground * (1 + draw(1, 1, 1, low=-0.2, high=0.2) * torch.linspace(-1, 1, SIDE).view(1, 1, -1, 1))
    shaded = (styles == STYLES.index("3d")).view(-1, 1, 1, 1)
    shadow = F.avg_pool2d(alpha, 5, 1, 2).roll((3, 1), (2, 3)) * shaded * draw(1, 1, 1, high=0.35)
    laid = ground * (1 - shadow) * (1 - alpha) + colour
    laid = torch.where(draw(1, 1, 1) < 0.25, blurred(laid, generator), laid)
    laid = laid * draw(1, 1, 1, low=0.85, high=1.15) + draw(1, 1, 1, low=-0.06, high=0.06)
    grain = 0.02 * draw(1, 1, 1) * torch.randn(laid.shape, generator=generator)
    return (laid + grain).clamp(0, 1) * 2 - 1


def bent(n: int, generator: torch.Generator) -> torch.Tensor:
    """Grids that scale, stretch, turn, shift, mirror and warp a little, for `grid_sample`."""
    rand = torch.rand(n, 8, generator=generator) * 2 - 1
    angle = 0.22 * rand[:, 0]
    mirror = torch.where(rand[:, 1] > 0.4, -1.0, 1.0)
    scale, stretch = 1 + 0.2 * rand[:, 2], 0.1 * rand[:, 3]
    wide, high = scale * (1 + stretch), scale * (1 - stretch)
    matrix = torch.stack([
        torch.stack([mirror * wide * angle.cos(), -high * angle.sin(), 0.12 * rand[:, 4]], 1),
        torch.stack([mirror * wide * angle.sin(), high * angle.cos(), 0.12 * rand[:, 5]], 1),
    ], 1)  # fmt: skip
    grid = F.affine_grid(matrix, [n, 4, SIDE, SIDE], align_corners=False)
    coarse = torch.randn(n, 2, 4, 4, generator=generator) * 0.05 * rand[:, 6].abs().view(-1, 1, 1, 1)
    return grid + F.interpolate(coarse, SIDE, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def recoloured(colour: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Premultiplied colours (n, 3, H, W), hues turned, made paler or stronger; draws (n, 3) from 0 to 1."""
    turn, strength = draws[:, 0] * 2 * np.pi, draws[:, 1] * 1.3
    grey = colour.mean(1, keepdim=True)
    # A turn about the grey axis, which keeps the mean of the channels (Rodrigues' formula).
    cos, sin = turn.cos().view(-1, 1, 1, 1), turn.sin().view(-1, 1, 1, 1) / 3**0.5
    away = colour - grey
    across = torch.roll(away, 1, 1) - torch.roll(away, -1, 1)
    return (grey + strength.view(-1, 1, 1, 1) * (away * cos + across * sin)).clamp(0, 1)


def blurred(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures as a network at its beginning paints them: without what is finer than two or three pixels."""
    side = int(torch.randint(16, 36, (), generator=generator))
    coarse = F.interpolate(pictures, side, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(coarse, SIDE, mode="bicubic", align_corners=False)


def seen(icons: Icons, batches: int, seed: int) -> tuple[torch.Tensor, ...]:
    """What the judge's eyes make of so many batches of pictures, and the drawing in each."""
    generator, eyes, drawn = torch.Generator().manual_seed(seed), Eyes(), []
    for i in range(batches):
        pictures, drawings = icons.batch(BATCH, generator)
        drawn.append((eyes(pictures), drawings))
        if (i + 1) % 20 == 0:
            print(f"drew {(i + 1) * BATCH} pictures", flush=True)
    return tuple(torch.cat(one) for one in zip(*drawn))


def train(icons: Icons, batches: int, epochs: int, seed: int = 0) -> Judge:
    """A judge that learned from pictures drawn once; the last sixteenth of them says how well it learned."""
    torch.manual_seed(seed)
    network, (eyed, drawings) = Judge(), seen(icons, batches, seed)
    kept = len(eyed) - max(1, batches // 16) * BATCH
    upper = nn.Sequential(*network.body[1:], network.drawing)  # the eyes see the same in every epoch
    optimizer = torch.optim.AdamW(upper.parameters(), lr=PEAK, weight_decay=0.05, fused=True)
    steps = epochs * -(-kept // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps)
    for epoch in range(epochs):
        network.train()
        for rows in torch.randperm(kept).split(BATCH):
            loss = F.cross_entropy(upper(eyed[rows]), drawings[rows], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            said, true = upper(eyed[kept:]).argmax(1), drawings[kept:]
        things = (said // len(STYLES) == true // len(STYLES)).float().mean().item()
        styles = (said % len(STYLES) == true % len(STYLES)).float().mean().item()
        print(f"epoch {epoch + 1} loss {loss.item():.3f} things {things:.3f} styles {styles:.3f}", flush=True)
    return network


def export(network: Judge, icons: Icons, data: Path, facts: dict) -> None:
    """Ship the weights in float16, the names of things, true features, and how well truth is read."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "names.json").write_text(json.dumps(icons.names, ensure_ascii=False, indent=0) + "\n", "utf-8")
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, FOLDER / "judge.safetensors", metadata={"format": "pt"})
    scores, features = truth.measured(network.eval(), data)
    save_file(features, FOLDER / "truth.safetensors", metadata={"format": "pt"})
    facts = {**facts, "on true pictures": scores}
    write_manifest(FOLDER, {"name": "Toyland judge", "licence": "Apache-2.0", "training": facts})
    print(json.dumps(facts, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland"), help="made by modules.training.toyland"
    )
    parser.add_argument("--batches", type=int, default=240, help=f"of {BATCH} pictures to learn from")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    icons = Icons(args.data)
    network = train(icons, args.batches, args.epochs)
    export(network, icons, args.data, {"samples": args.batches * BATCH, "epochs": args.epochs})


if __name__ == "__main__":
    main()
