"""A page of Toyland: compositions with their captions, and scenes with their depth and their poses."""

from pathlib import Path
from typing import Any

import numpy as np

from modules.conditions.depth import depth_map
from modules.training.scene_cache import pose_map
from modules.training.scores.sheets import contact_sheet
from modules.training.toyland.captions import describe
from modules.training.toyland.compose import Toyland
from modules.training.toyland.scenes import scene

COLUMNS, SIDE = 6, 220


def page(data: Path, out: Path, compositions: int = 18, scenes: int = 6) -> dict[str, Any]:
    """Draw the page to `out/toyland.jpg`; every picture is decided by its place on it."""
    toyland, shown, titles = Toyland(data), list[np.ndarray](), list[str]()
    for i in range(compositions):
        rng = np.random.default_rng(2_000_000 + i)
        one = toyland.compose(rng)
        shown.append(toyland.render(one))
        titles.append(describe(one, rng))
    made = [scene(i, kind="figure" if i % 3 else "objects") for i in range(scenes)]
    shown += [one.image for one in made]
    titles += [one.captions[1] for one in made]
    shown += [np.asarray(depth_map(one.depth).convert("RGB")) for one in made]
    titles += ["depth, near is white"] * scenes
    for one in made:
        if one.keypoints is None:
            shown.append(np.zeros((256, 256, 3), np.uint8))
            titles.append("nobody, so no pose")
        else:
            shown.append(pose_map(one.keypoints, 256, hidden=True))
            titles.append(f"pose: {one.facts['pose'] or 'random joints'}")
    contact_sheet(shown, titles, COLUMNS, SIDE, lines=3).save(out / "toyland.jpg", quality=85)
    return {"compositions": compositions, "scenes": scenes}
