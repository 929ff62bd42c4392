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
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)


class Edges(nn.Module):
    """Pictures (B, 3, 48, 48) to where which edges run, the coarse look and the shading: nothing is learned.

    Histograms of oriented gradients (Dalal and Triggs 2005), from the channel that changes most, at two
    scales: they tell shapes whatever the colours, so a judge on top learns from few pictures in a minute. How
    much changes how strongly, and how many tones there are, tells styles.
    """

    length = ORIENTATIONS * (CELLS**2 + (CELLS // 2) ** 2) + 4 * CELLS**2 + 4 * len(QUANTILES)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        ground = torch.cat([pictures[..., :2], pictures[..., -2:]], -1).median(-1, keepdim=True).values
        look = F.adaptive_avg_pool2d(torch.cat([pictures, (pictures - ground).abs().mean(1, True)], 1), CELLS)
        halved = F.avg_pool2d(pictures, 2)
        parts = [oriented(pictures, CELLS), oriented(halved, CELLS // 2), look.flatten(1), shading(pictures)]
        return torch.cat(parts, 1)


def shading(pictures: torch.Tensor) -> torch.Tensor:
    """The quantiles of steps between neighbours, of tones and of the channels' spread, over each picture."""
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().amax(1).flatten(1)
    over = F.avg_pool2d(pictures, 3, 1)
    steps = (over[..., 3:] - over[..., :-3]).abs().amax(1).flatten(1)
    tones, spread = pictures.mean(1).flatten(1), (pictures.amax(1) - pictures.amin(1)).flatten(1)
    marks = torch.tensor(QUANTILES)
    found = [torch.quantile(one, marks, dim=1).T for one in (across, steps, tones, spread)]
    return torch.cat([(found[0] + 1e-3).log(), (found[1] + 1e-3).log(), *found[2:]], 1)


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


class Judge(nn.Module):
    """Pictures (B, 3, 48, 48) from -1 to 1 -> features (B, 128), from which things and styles are scored."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Edges(), nn.Linear(Edges.length, 320), nn.LayerNorm(320), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(320, WIDTH), nn.LayerNorm(WIDTH),
        )  # fmt: skip
        self.thing = nn.Linear(WIDTH, len(CLASSES))
        self.style = nn.Linear(WIDTH, len(STYLES))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.body(pictures)


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
            things.append(network.thing(seen).log_softmax(1))
            styles += [STYLES[i] for i in network.style(seen).argmax(1)]
    return Named(torch.cat(features).numpy(), torch.cat(things).numpy(), styles)
