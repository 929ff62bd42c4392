"""The network that names the thing and the style in a picture of one thing, and its shipped weights."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from modules.training.toyland.emoji import CLASSES, STYLES

FOLDER = Path(__file__).resolve().parents[3] / "assets" / "judge"
SIDE = 48  # pixels across of what it looks at
WIDTH = 128  # features
CELLS, ORIENTATIONS = 8, 8
BINS = 10


class Edges(nn.Module):
    """Pictures (B, 3, 48, 48) to where which edges run, and the coarse look: (B, 896), with nothing learned.

    Histograms of oriented gradients (Dalal and Triggs 2005), from the channel that changes most, at two
    scales: they tell shapes whatever the colours, so a judge on top learns from few pictures in a minute.
    """

    length = ORIENTATIONS * (CELLS**2 + (CELLS // 2) ** 2) + 4 * CELLS**2

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        look = torch.cat([pictures, off_ground(pictures)[:, None]], 1)
        parts = [oriented(pictures, CELLS), oriented(F.avg_pool2d(pictures, 2), CELLS // 2)]
        return torch.cat([*parts, F.adaptive_avg_pool2d(look, CELLS).flatten(1)], 1)


class Shading(nn.Module):
    """Pictures (B, 3, 48, 48) to how their things are shaded: (B, 40), with nothing learned.

    Shares of the thing by how much neighbours differ, near and a little further, by how colourful it is and
    by how light: flat drawings hardly change inside, silhouettes have one tone, what looks solid has many.
    """

    length = 4 * BINS

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        inside = (off_ground(pictures) > 0.15).float()
        core = 1 - F.max_pool2d(1 - inside[:, None], 3, 1, 1)[:, 0]  # its edge is a step in every style
        smooth = F.avg_pool2d(pictures, 3, 1, 1)
        near = (pictures[..., 1:] - pictures[..., :-1]).abs().amax(1)
        far = (smooth[..., 2:, 2:] - smooth[..., :-2, :-2]).abs().amax(1)
        colourful = pictures.amax(1) - pictures.amin(1)
        steps = (0.004, 0.5)
        return torch.cat([
            shares(near.clamp_min(1e-6).log(), core[..., 1:], *np.log(steps)),
            shares(far.clamp_min(1e-6).log(), core[..., 1:-1, 1:-1], *np.log(steps)),
            shares(colourful, core, 0, 2), shares(pictures.mean(1), core, -1, 1),
        ], 1)  # fmt: skip


def off_ground(pictures: torch.Tensor) -> torch.Tensor:
    """How far each pixel is off the ground of its row, (B, 48, 48)."""
    ground = torch.cat([pictures[..., :2], pictures[..., -2:]], -1).median(-1, keepdim=True).values
    return (pictures - ground).abs().mean(1)


def shares(values: torch.Tensor, where: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """The share of values (B, H, W) in each of some even bins from low to high, where `where` is 1."""
    at = ((values - low) / (high - low) * BINS).clamp(0, BINS - 1).long()
    counts = torch.zeros(len(values), BINS).scatter_add_(1, at.flatten(1), where.flatten(1))
    return counts / where.sum((1, 2)).clamp_min(1)[:, None]


def oriented(pictures: torch.Tensor, cells: int) -> torch.Tensor:
    """How strongly edges of each orientation run through each cell, (B, orientations * cells * cells)."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    channel = (across**2 + down**2).argmax(1, keepdim=True)
    across, down = across.gather(1, channel), down.gather(1, channel)
    strength = (across**2 + down**2 + 1e-6) ** 0.25  # the root of the gradient's length
    angles = torch.arange(ORIENTATIONS) * torch.pi / ORIENTATIONS
    turned = across * angles.cos().view(1, -1, 1, 1) + down * angles.sin().view(1, -1, 1, 1)
    share = (turned / strength**2).square() ** 2  # the fourth power of the cosine
    pooled = F.adaptive_avg_pool2d(share * strength, cells).flatten(1)
    return pooled / pooled.square().mean(1, keepdim=True).add(1e-3).sqrt()


class Eyes(nn.Module):
    """Pictures (B, 3, 48, 48) to all that a judge is told of them: their edges and their shading."""

    length = Edges.length + Shading.length

    def __init__(self) -> None:
        super().__init__()
        self.edges, self.shading = Edges(), Shading()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.edges(pictures), 5 * self.shading(pictures)], 1)


class Judge(nn.Module):
    """Pictures (B, 3, 48, 48) from -1 to 1 -> features (B, 128), from which drawings are scored.

    A drawing is a thing in a style: the styles draw things so differently that neither is told apart well
    without the other. `drawing` gives (B, things * styles).
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Eyes(), nn.Linear(Eyes.length, 320), nn.LayerNorm(320), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(320, WIDTH), nn.LayerNorm(WIDTH),
        )  # fmt: skip
        self.drawing = nn.Linear(WIDTH, len(CLASSES) * len(STYLES))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.body(pictures)

    def things(self, features: torch.Tensor) -> torch.Tensor:
        """The log probability of each thing in whatever style, (B, things)."""
        return self._each(features).logsumexp(2)

    def styles(self, features: torch.Tensor) -> torch.Tensor:
        """The log probability of each style of whatever thing, (B, styles)."""
        return self._each(features).logsumexp(1)

    def _each(self, features: torch.Tensor) -> torch.Tensor:
        return self.drawing(features).log_softmax(1).view(-1, len(CLASSES), len(STYLES))


class Named(NamedTuple):
    """What is in some pictures: features (N, 128), log probabilities of CLASSES (N, 196), and styles."""

    features: np.ndarray
    things: np.ndarray
    styles: list[str]

    @property
    def labels(self) -> list[str]:
        """The most probable of CLASSES for each."""
        return [CLASSES[i] for i in self.things.argmax(1)]


@functools.cache
def names() -> dict[str, tuple[str, ...]]:
    """What captions of Toyland call each of its things, by its label."""
    listed = json.loads((FOLDER / "names.json").read_text("utf-8"))
    return {label: tuple(called) for label, called in listed.items()}


@functools.cache
def manifest() -> dict[str, Any]:
    """How the judge was trained, and how often it and its fellows are right about true pictures."""
    return json.loads((FOLDER / "manifest.json").read_text("utf-8"))


@functools.cache
def judge() -> Judge:
    """The shipped network; loaded when it is first asked for."""
    network = Judge()
    weights = load_file(FOLDER / "judge.safetensors")
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network.eval().requires_grad_(False)


@functools.cache
def true_features() -> dict[str, np.ndarray]:
    """The judge's features of true pictures of some classes, (N, 128) each, by label."""
    return {name: value.float().numpy() for name, value in load_file(FOLDER / "truth.safetensors").items()}


def small(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Square pictures (H, H, 3) uint8 as the judge takes them."""
    shrunk = [
        np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None))
        for one in pictures
    ]
    return torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2).float() / 127.5 - 1


def named(pictures: Sequence[np.ndarray], network: Judge | None = None) -> Named:
    """What a judge, by itself the shipped one, sees in square pictures (H, H, 3) uint8 of one thing each."""
    network = network or judge()
    if not pictures:
        return Named(np.empty((0, WIDTH), np.float32), np.empty((0, len(CLASSES)), np.float32), [])
    features, things, styles = [], [], list[str]()
    with torch.no_grad():
        for batch in small(pictures).split(64):
            seen = network(batch)
            features.append(seen)
            things.append(network.things(seen))
            styles += [STYLES[i] for i in network.styles(seen).argmax(1)]
    return Named(torch.cat(features).numpy(), torch.cat(things).numpy(), styles)
