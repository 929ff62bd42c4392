"""Prepare Toyland's pictures: fetch the icons, draw them, and render the scenes.

    python -m modules.training.toyland --data DATA --scenes 1200

Needs `npm` for the downloads; about 35 minutes on one core, most of it the scenes.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from modules.training.toyland.emoji import SIZE, prepare
from modules.training.toyland.scenes import is_held_out, scene


def render_scenes(folder: Path, count: int) -> None:
    """Render `count` scenes that are not held out: rgb.npy (N, 256, 256, 3), depth.npy float16, captions.

    keypoints.npy (N, 18, 3) holds x and y in pixels and 1 where visible, or only NaN without a figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "DONE").exists():
        return
    rgb = np.lib.format.open_memmap(
        folder / "rgb.npy", mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3)
    )
    depth = np.lib.format.open_memmap(
        folder / "depth.npy", mode="w+", dtype=np.float16, shape=(count, SIZE, SIZE)
    )
    keypoints = np.lib.format.open_memmap(
        folder / "keypoints.npy", mode="w+", dtype=np.float32, shape=(count, 18, 3)
    )
    captions = []
    for seed in itertools.count():
        if len(captions) == count:
            break
        if not is_held_out((drawn := scene(seed)).facts):
            rgb[len(captions)], depth[len(captions)] = drawn.image, drawn.depth
            keypoints[len(captions)] = np.nan if drawn.keypoints is None else drawn.keypoints
            captions.append(drawn.captions)
    (folder / "captions.json").write_text(json.dumps(captions))
    (folder / "DONE").touch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("runs/toyland"), help="folder to fill")
    parser.add_argument("--scenes", type=int, default=1200, help="how many scenes to render")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    if not (args.data / "icons.npy").exists():
        prepare(args.data)
    render_scenes(args.data / "scenes", args.scenes)


if __name__ == "__main__":
    main()
