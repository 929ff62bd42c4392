"""How well a ControlNet is obeyed is measured here, on scenes that nobody was trained on.

    python -m modules.training.obedience --model pocket

The networks of modules.training.posture and modules.training.sight judge poses and depth, both trained on
Toyland's scenes; BlazePose's verdict on poses stands beside. The true pictures are judged as the painted ones
are, and so is what is painted without any map.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from modules.conditions.blazepose import people_in
from modules.conditions.depth import depth_map
from modules.conditions.edges import edges
from modules.conditions.pose import Person
from modules.conditions.sight import seen, sight
from modules.models.catalog import read_catalogue
from modules.models.latent import LatentModel
from modules.models.loading import load, set_threads
from modules.tasks import Controlled, Task
from modules.training.posture import joints_of, pck, posture, stance
from modules.training.scene_cache import pose_map
from modules.training.scores.painting import painted
from modules.training.scores.sheets import contact_sheet
from modules.training.sight import held_out_scenes, nearness, spearman
from modules.training.toyland.scenes import Scene
from modules.training.wording import colours_right

MAPS = {
    "pose": lambda one: Image.fromarray(pose_map(one.keypoints, len(one.image), hidden=True)),
    "depth": lambda one: depth_map(one.depth),
    "canny": lambda one: edges(Image.fromarray(one.image)),
}

AROUND = 2  # of the 32 cells across a picture: how far around a thing its depth is judged


def asked(model: str, kind: str, scenes: list[Scene], **changes: Any) -> list[Task]:
    """One request a scene: its map, its middle caption, and a seed of its own."""
    return [
        Controlled(**{
            "model": model, "prompt": one.captions[1], "control_type": kind, "control_image": MAPS[kind](one),
            "detect": "never", "seed": i, "steps": 20, "guidance_scale": 3.0, **changes,
        })
        for i, one in enumerate(scenes)
    ]  # fmt: skip


def pose_score(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """The share of visible joints seen where they should be, PCK@0.1."""
    return joints_right(stance(posture(), [Image.fromarray(one) for one in pictures]), scenes)


def pose_score_by_blazepose(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """The same by a detector that was never shown Toyland; in a picture without people, none is right."""
    found = [people_in(Image.fromarray(one)) or ((None,) * 18,) for one in pictures]
    return joints_right([people[0] for people in found], scenes)


def joints_right(people: list[Person], scenes: list[Scene]) -> float:
    """PCK@0.1 of one person a scene."""
    hits = [pck(who, joints_of(one)) for who, one in zip(people, scenes)]
    return round(float(np.concatenate(hits).mean()), 3)


def depth_score(pictures: list[np.ndarray], scenes: list[Scene]) -> float:
    """The mean rank correlation of the depth that is seen with the true one, where things stand and around.

    Inside an outline alone the measure is ill-posed: a single thing is nearly as near everywhere, and ranks
    what its rim's cells share with the wall behind.
    """
    read = seen(sight(), [Image.fromarray(one) for one in pictures])
    ranks = [
        spearman(saw, nearness(one.depth), about_things(one.mask, len(saw))) for saw, one in zip(read, scenes)
    ]
    return round(float(np.nanmean(ranks)), 3)


def about_things(mask: np.ndarray, side: int) -> np.ndarray:
    """The cells of a grid that things cover, and those up to AROUND further: (side, side) booleans."""
    covered = Image.fromarray((mask > 0).astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    return ndimage.binary_dilation(np.asarray(covered) > 127, iterations=AROUND)


def colours_score(pictures: list[np.ndarray], scenes: list[Scene]) -> dict[str, float | int | None]:
    """How often a wall, a thing and a figure's clothes have the colour that the caption names."""
    read = [colours_right(picture, one, one.captions[1]) for picture, one in zip(pictures, scenes)]
    kinds = {kind: [right for one in read for right in one[kind]] for kind in ("walls", "things", "clothes")}
    kinds["all"] = list(itertools.chain(*kinds.values()))
    shares = {kind: round(float(np.mean(right)), 3) if right else None for kind, right in kinds.items()}
    return shares | {"colours": len(kinds["all"])}


SCORES: dict[str, dict[str, Callable[[list[np.ndarray], list[Scene]], float]]] = {
    "pose": {"PCK@0.1": pose_score, "PCK@0.1 by BlazePose": pose_score_by_blazepose},
    "depth": {"rank correlation": depth_score},
}


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
        scores[kind] = {"pictures": len(truth)}
        for said, shown in {"with the map": led, "without": free, "true pictures": true}.items():
            scores[kind][said] = {
                name: measured(shown, truth) for name, measured in SCORES.get(kind, {}).items()
            }
            scores[kind][said] |= {"colours named": colours_score(shown, truth)}
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
