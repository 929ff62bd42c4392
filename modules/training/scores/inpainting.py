"""Whether what is repainted inside a mask is what was asked for, sits without a seam, and spares the rest."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from modules.models.latent import LatentModel
from modules.tasks import Inpaint
from modules.training.scores.asking import Wanted, answers, likes
from modules.training.scores.painting import painted
from modules.training.scores.prompts import NAMES
from modules.training.toyland.colours import PAINTS
from modules.training.toyland.compose import Item, Toyland, is_pair_held_out
from modules.training.toyland.emoji import CLASSES, SIZE

CASES = 50


def inpainting(model: LatentModel, data: Path, share: float) -> dict[str, Any]:
    """Things of Toyland pictures are masked and others painted there, in (thing, colour) pairs never seen.

    The seam is the mean step between neighbours across the mask's edge, over the mean step between
    neighbours elsewhere within 12 pixels of it; 1 means that the edge cannot be told from what is around it.
    Painted as the page does unless told otherwise, by the model's own defaults.
    """
    toyland, rng, count = Toyland(data), np.random.default_rng(2024), max(4, round(CASES * share))
    colours = [word for word in PAINTS if word not in ("black", "white", "gray")]
    pairs = [(label, paint) for label in CLASSES for paint in colours if is_pair_held_out(label, paint)]
    named, coloured, kept, seams = [], [], [], []
    for label, paint in (pairs[i] for i in rng.permutation(len(pairs))[:count]):
        while (made := toyland.compose(rng)).layout != "single" or made.style != "3d" or made.size:
            pass
        picture = Image.fromarray(toyland.render(made))
        mask = around(made.items[0])
        task = Inpaint(**{
            **model.card.defaults, "prompt": f"a {paint} {NAMES[label]} on a {made.ground} background",
            "image": picture, "mask": mask, "seed": 5,
        })  # fmt: skip
        after, before, inside = painted(model, task)[0], np.asarray(picture), np.asarray(mask) > 127
        (told,) = answers([after], [Wanted(things=(likes(label),), colour=paint)])
        named.append(told["thing"])
        coloured.append(told["colour"])
        kept.append(bool((after[~inside] == before[~inside]).all()))
        seams.append(seam(after, inside))
    return {
        "cases": len(named),
        "thing right": round(float(np.mean(named)), 3),
        "colour right": round(float(np.mean(coloured)), 3),
        "unmasked pixels untouched": round(float(np.mean(kept)), 3),
        "seam, median": round(float(np.median(seams)), 2),
        "seam at most 1": round(float(np.mean(np.array(seams) <= 1)), 3),
    }


def around(item: Item) -> Image.Image:
    """A mask over a thing of a composition and its shadow, with some room."""
    side = item.scale * SIZE
    x, y = item.centre[0] * SIZE, item.centre[1] * SIZE
    mask = Image.new("L", (SIZE, SIZE), 0)
    reach = side * 0.62
    ImageDraw.Draw(mask).ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return mask


def seam(picture: np.ndarray, inside: np.ndarray) -> float:
    """How much larger the steps across a mask's edge are than other steps near it."""
    near = ndimage.distance_transform_edt(inside) + ndimage.distance_transform_edt(~inside) <= 12
    across, around = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(picture.astype(np.float64), axis=axis)).mean(-1)
        crossing = np.diff(inside, axis=axis)
        close = np.delete(near, -1, axis) & ~crossing
        across.append(steps[crossing])
        around.append(steps[close])
    return float(np.concatenate(across).mean() / max(0.5, np.concatenate(around).mean()))
