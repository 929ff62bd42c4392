"""How well a ControlNet is obeyed is measured here, on scenes that nobody was trained on.

    python -m modules.training.obedience --model pocket

BlazePose judges poses, and the network of modules.training.sight depth. What they make of the true pictures
stands beside what they make of the painted ones, and so does what is painted without any map.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modules.conditions.blazepose import people_in
from modules.conditions.depth import depth_map
from modules.conditions.edges import edges
from modules.conditions.pose import Person
from modules.conditions.sight import seen, sight
from modules.models.catalog import read_catalogue
from modules.models.latent import LatentModel
from modules.models.loading import load, set_threads
from modules.tasks import Controlled, Task
from modules.training.evaluate import contact_sheet, painted
from modules.training.scene_cache import pose_map
from modules.training.sight import held_out_scenes, nearness, spearman
from modules.training.toyland.scenes import BACKDROPS, Scene

MAPS = {
    "pose": lambda one: Image.fromarray(pose_map(one.keypoints, len(one.image), hidden=True)),
    "depth": lambda one: depth_map(one.depth),
    "canny": lambda one: edges(Image.fromarray(one.image)),
}


def asked(model: str, kind: str, scenes: list[Scene], **changes: Any) -> list[Task]:
    """One request a scene: its map, its middle caption, and a seed of its own."""
    return [
        Controlled(**{
            "model": model, "prompt": one.captions[1], "control_type": kind, "control_image": MAPS[kind](one),
            "detect": "never", "seed": i, "steps": 20, "guidance_scale": 3.0, **changes,
        })
        for i, one in enumerate(scenes)
    ]  # fmt: skip


def pck(found: Person, true: np.ndarray) -> np.ndarray:
    """Which joints lie within a tenth of the figure's longer side of where they should be.

    true (18, 3): x and y in 0..1, and 1 where visible. One truth value for each joint that is visible there;
    a joint not found is wrong.
    """
    reach = 0.1 * np.ptp(true[:, :2], axis=0).max()
    off = [np.inf if spot is None else np.hypot(*(np.array(spot) - at[:2])) for spot, at in zip(found, true)]
    return (np.array(off) <= reach)[true[:, 2] > 0]


def pose_score(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """The share of visible joints found where they should be, PCK@0.1; in a picture without people, none."""
    hits = []
    for picture, one in zip(pictures, scenes):
        people = people_in(Image.fromarray(picture)) or ((None,) * 18,)
        hits.append(pck(people[0], one.keypoints / (*one.image.shape[:2], 1)))
    return round(float(np.concatenate(hits).mean()), 3)


def depth_score(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """The mean rank correlation of the depth that is seen with the true one, where things stand."""
    read = seen(sight(), [Image.fromarray(one) for one in pictures])
    ranks = []
    for saw, one in zip(read, scenes):
        near = nearness(one.depth)
        things = Image.fromarray((one.mask > 0).astype(np.uint8) * 255).resize(
            near.shape, Image.Resampling.BOX
        )
        ranks.append(spearman(saw, near, np.asarray(things) > 127))
    return round(float(np.nanmean(ranks)), 3)


def backdrop_word(picture: np.ndarray) -> str:
    """The wall colour nearest to the picture's upper corners."""
    corner = np.median(np.concatenate([picture[:24, :24], picture[:24, -24:]]).reshape(-1, 3), 0)
    return min(BACKDROPS, key=lambda word: np.abs(corner - np.array(BACKDROPS[word])).sum())


def background_score(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """How often the wall has the colour that the caption names, among nineteen."""
    named = [(p, s) for p, s in zip(pictures, scenes) if s.facts["background"] in s.captions[1]]
    right = [backdrop_word(picture) == one.facts["background"] for picture, one in named]
    return round(float(np.mean(right)), 3)


SCORES = {"pose": pose_score, "depth": depth_score}


def obedience(model: LatentModel, count: int) -> tuple[dict[str, Any], Image.Image]:
    """The scores of every control type that can be judged, and a sheet: map, painted, true."""
    figures, things = held_out_scenes(count, "figure"), held_out_scenes(count, "objects")
    scores: dict[str, Any] = {"model": model.hash}
    rows: list[tuple[np.ndarray, str]] = []
    for kind in (kind for kind in MAPS if kind in model.card.controls):
        truth = figures if kind == "pose" else things
        led = [painted(model, task)[0] for task in asked(model.card.id, kind, truth)]
        free = [painted(model, task)[0] for task in asked(model.card.id, kind, truth, control_scale=0.0)]
        true = [one.image for one in truth]
        three = {"with the map": led, "without": free, "true pictures": true}
        scores[kind] = {"pictures": len(truth)}
        if kind in SCORES:
            scores[kind] |= {said: SCORES[kind](shown, truth) for said, shown in three.items()}
        scores[kind] |= {
            f"background, {said}": background_score(shown, truth) for said, shown in three.items()
        }
        rows += list(sheet_row(kind, truth[:8], led))
    pictures, titles = zip(*rows, strict=True)
    return scores, contact_sheet(list(pictures), list(titles), 8, 160)


def sheet_row(kind: str, scenes: list[Scene], led: list[np.ndarray]) -> Iterator[tuple[np.ndarray, str]]:
    """Two rows of the sheet: the maps, and what was painted on them."""
    for one in scenes:
        yield np.asarray(MAPS[kind](one).convert("RGB")), kind
    for one, picture in zip(scenes, led):
        yield picture, one.captions[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a model of presets/models.yaml")
    parser.add_argument("--out", type=Path, default=Path("assets/scores"))
    parser.add_argument("--pictures", type=int, default=40, help="of each control type")
    args = parser.parse_args()
    started = time.time()
    set_threads()
    scores, sheet = obedience(load(read_catalogue()[args.model]), args.pictures)
    scores["seconds"] = round(time.time() - started)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "obedience.json").write_text(json.dumps(scores, indent=1) + "\n")
    sheet.save(args.out / "obedience.jpg", quality=88)
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
