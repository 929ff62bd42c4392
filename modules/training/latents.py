"""Toyland drawn, captioned and encoded once, in chunks that training reads while more are written.

python -m modules.training.latents draw
python -m modules.training.latents encode
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

from modules.training.autoencoder import CONFIG
from modules.training.checkpoint import load_state
from modules.training.precision import precision
from modules.training.text import TextStates
from modules.training.toyland.captions import describe
from modules.training.toyland.compose import Toyland, is_plain
from modules.training.toyland.emoji import CLASSES

CHUNK = 2048
CAPTIONS = 2  # different captions kept of each picture
SCENE_SHARE = 0.05


def load_encoder(run: Path) -> tuple[AutoencoderDC, float]:
    """Load the averaged autoencoder of a run, and the factor that brings its latents to unit variance."""
    state = load_state(run / "autoencoder.pt")
    if state is None:
        raise FileNotFoundError(f"{run / 'autoencoder.pt'}: train the autoencoder first")
    network = AutoencoderDC(**CONFIG)
    network.load_state_dict(state["average"])
    factor = (
        json.loads((run / "scaling.json").read_text())["scaling_factor"]
        if (run / "scaling.json").exists()
        else 1.0
    )
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last), factor


@torch.no_grad()
def encode(network: AutoencoderDC, factor: float, pictures: np.ndarray) -> torch.Tensor:
    """Encode (N, 256, 256, 3) uint8 pictures to (N, 8, 16, 16) float32 latents of unit variance."""
    out = []
    for batch in torch.from_numpy(pictures).split(16):
        batch = (batch.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with precision():
            out.append(network.encode(batch).latent.float() * factor)
    return torch.cat(out)


def draw_chunk(toyland: Toyland, scenes: tuple[np.ndarray, list] | None, seed: int, n: int = CHUNK):
    """Draw n pictures: (n, 256, 256, 3) uint8, captions [[...] * n], class indices (n,) with -1 for none.

    The last, (n,), says which pictures show their thing as its name alone promises.
    """
    rng = np.random.default_rng(seed)
    pictures, captions, classes, plain = [], [], [], []
    index = {label: i for i, label in enumerate(CLASSES)}
    for _ in range(n):
        if scenes is not None and rng.random() < SCENE_SHARE:
            i = int(rng.integers(len(scenes[0])))
            pictures.append(scenes[0][i])
            captions.append([str(rng.choice(scenes[1][i])) for _ in range(CAPTIONS)])
            classes.append(-1)
            plain.append(False)
            continue
        composition = toyland.compose(rng)
        pictures.append(toyland.render(composition))
        captions.append([describe(composition, rng) for _ in range(CAPTIONS)])
        # A class token speaks of one thing alone in the picture.
        classes.append(index.get(composition.items[0].label, -1) if composition.layout == "single" else -1)
        plain.append(is_plain(composition))
    return np.stack(pictures), captions, np.array(classes, np.int16), np.array(plain)


def save_whole(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz so that it is there whole or not at all."""
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    os.replace(part, path)


def draw(data: Path, run: Path, chunks: int) -> None:
    """Draw and caption what is missing of the first `chunks` chunks; needs no autoencoder."""
    toyland, states, scenes, folder = Toyland(data), TextStates(), None, run / "drawn"
    # A class token begins at the mean state of the first words of its name, the null token at no words'.
    save_whole(
        run / "words.npz", empty=states([""]).numpy(), classes=states([*CLASSES, ""])[:, 1:4].mean(1).numpy()
    )
    if (data / "scenes" / "DONE").exists():
        scenes = (
            np.load(data / "scenes" / "rgb.npy", mmap_mode="r"),
            json.loads((data / "scenes" / "captions.json").read_text()),
        )
    for chunk in range(chunks):
        path = folder / f"{chunk:05d}.npz"
        if path.exists():
            continue
        pictures, captions, classes, plain = draw_chunk(toyland, scenes, seed=chunk)
        flat = [caption for several in captions for caption in several]
        text = torch.cat([states(flat[i : i + 64]) for i in range(0, len(flat), 64)]).half().numpy()
        save_whole(
            path,
            pictures=pictures,
            text=text.reshape(len(captions), CAPTIONS, *text.shape[1:]),
            classes=classes,
            plain=plain,
        )
        print(f"drew {path.name}", flush=True)


def encode_drawn(run: Path, chunks: int) -> None:
    """Encode what was drawn; the scale that gives unit variance is measured on the first chunk and kept."""
    network, factor = load_encoder(run)
    for chunk in range(chunks):
        source, path = run / "drawn" / f"{chunk:05d}.npz", run / "latents" / f"{chunk:05d}.npz"
        if path.exists():
            continue
        while not source.exists():
            time.sleep(2)
        drawn = np.load(source)
        if not (run / "scaling.json").exists():
            factor = 1 / encode(network, 1.0, drawn["pictures"][:512]).std().item()
            (run / "scaling.json").write_text(json.dumps({"scaling_factor": factor}))
        latents = encode(network, factor, drawn["pictures"])
        told = {name: drawn[name] for name in ("text", "classes", "plain")}
        save_whole(path, latents=latents.half().numpy(), **told)
        print(f"encoded {path.name}: latent std {latents.std():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("draw", "encode"))
    parser.add_argument(
        "--data", type=Path, default=Path("runs/toyland"), help="made by modules.training.toyland"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"))
    parser.add_argument(
        "--chunks", type=int, default=16, help=f"how many chunks of {CHUNK} pictures to have in the end"
    )
    args = parser.parse_args()
    for name in ("drawn", "latents"):
        (args.run / name).mkdir(parents=True, exist_ok=True)
    if args.stage == "draw":
        draw(args.data, args.run, args.chunks)
    else:
        encode_drawn(args.run, args.chunks)


if __name__ == "__main__":
    main()
