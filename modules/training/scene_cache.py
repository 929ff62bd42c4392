"""Scenes as the training of a ControlNet reads them: encoded once, each with the maps that lead to it."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from modules.conditions.depth import depth_map
from modules.conditions.edges import edges
from modules.conditions.pose import draw
from modules.models.catalog import CONTROLNETS
from modules.models.files import fingerprint
from modules.models.latent import LatentModel
from modules.training.text import TOKENS

NO_CAPTION = 0.3  # so many captions are dropped, so that the map speaks for itself
BATCH = 16  # pictures encoded at once
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

    What an autoencoder or a text encoder of other weights made, or another number of scenes, is made again;
    a U-Net that learned on changes nothing of it.
    """
    scenes, captions = (
        np.load(data / "rgb.npy", mmap_mode="r"),
        json.loads((data / "captions.json").read_text()),
    )
    encoders = fingerprint(model.card.folder, (CONTROLNETS, "unet", "class_embedding"))
    facts = {"encoders": encoders, "scenes": len(scenes)}
    done = folder / "cache.json"
    if not done.exists() or json.loads(done.read_text()) != facts:
        for stale in folder.glob("*.npy"):
            stale.unlink()
        latents = [
            model.encode(as_input(scenes[i : i + BATCH]) * 2 - 1) for i in range(0, len(scenes), BATCH)
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
def listen(
    cached: Cached,
    data: Path,
    folder: Path,
    first_layers: Callable[[torch.Tensor], torch.Tensor],
    kinds: Sequence[str],
) -> Cached:
    """The cached scenes with their maps as a network's first layers hear them, made once."""
    heard = {}
    for kind in kinds:
        paths = [folder / f"{kind}-{name}.npy" for name in ("rows", "heard")]
        if not all(path.exists() for path in paths):
            rows, maps = maps_of(data, kind)
            made = [first_layers(as_input(maps[i : i + BATCH])) for i in range(0, len(maps), BATCH)]
            for path, array in zip(paths, (rows, torch.cat(made).half().numpy()), strict=True):
                np.save(path, array)
        rows, made = (np.load(path, mmap_mode="r") for path in paths)
        heard[kind] = (rows, made)
    return dataclasses.replace(cached, heard=heard)


def as_input(maps: np.ndarray) -> torch.Tensor:
    """Maps (N, H, W, 3) uint8 as a ControlNet takes them: (N, 3, H, W) from 0 to 1."""
    return torch.from_numpy(np.array(maps)).permute(0, 3, 1, 2) / 255


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
