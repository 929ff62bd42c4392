"""What can be seen in a picture without any network: its ground, the things on it, and their colours."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from modules.training.toyland.colours import GROUNDS, coat, hsv, hue_word
from modules.training.toyland.compose import PLACES

BORDER = 6  # pixels at the sides that are taken for ground
AWAY = 60  # what the channels of a pixel must differ from the ground's by, in sum, to be a thing's
SHADE = 0.7  # the darkest that a shadow makes a ground
SMALLEST = 0.2  # of the largest thing: what covers less is a crumb of it


class Spot(NamedTuple):
    """One thing that stands apart: its box in pixels (left, top, right, bottom), and how many it covers."""

    box: tuple[int, int, int, int]
    area: int

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def ground_of(picture: np.ndarray) -> np.ndarray:
    """The colour behind each row of a picture (H, W, 3) uint8, (H, 1, 3) float64: grounds fade downwards."""
    sides = np.concatenate([picture[:, :BORDER], picture[:, -BORDER:]], 1).astype(np.float64)
    rows = np.median(sides, 1)
    return ndimage.median_filter(rows, size=(len(rows) // 8 | 1, 1), mode="nearest")[:, None]


def ground_word(picture: np.ndarray) -> str:
    """The word for a ground that is nearest to the picture's border, by distance in RGB."""
    border = np.concatenate(
        [picture[:6].reshape(-1, 3), picture[-6:].reshape(-1, 3), picture[:, :6].reshape(-1, 3)]
    )
    middle = np.median(border, 0)
    return min(GROUNDS, key=lambda word: np.abs(middle - np.array(GROUNDS[word])).sum())


def things_mask(picture: np.ndarray) -> np.ndarray:
    """Where a picture is neither ground nor its shadow, (H, W) bool."""
    ground, pixels = ground_of(picture), picture.astype(np.float64)
    lit = (pixels * ground).sum(-1, keepdims=True) / np.maximum((ground**2).sum(-1, keepdims=True), 1)
    shadow = np.abs(pixels - lit * ground).sum(-1) < AWAY / 2
    shadow &= (lit[..., 0] > SHADE) & (lit[..., 0] <= 1)
    return (np.abs(pixels - ground).sum(-1) > AWAY) & ~shadow


def spots(picture: np.ndarray) -> list[Spot]:
    """The things that stand apart from each other in a picture, the largest first; crumbs are left out."""
    gap = max(1, len(picture) // 128)
    mask = ndimage.binary_closing(np.pad(things_mask(picture), 2 * gap), iterations=gap)
    mask = ndimage.binary_opening(mask[2 * gap : -2 * gap, 2 * gap : -2 * gap], iterations=gap)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    found = []
    for i, place in enumerate(ndimage.find_objects(labels), 1):
        rows, columns = place
        box = columns.start, rows.start, columns.stop, rows.stop
        found.append(Spot(box, int((labels[place] == i).sum())))
    found.sort(key=lambda spot: -spot.area)
    return [spot for spot in found if spot.area >= max(SMALLEST * found[0].area, mask.size / 500)]


def around(spots: list[Spot]) -> Spot | None:
    """Several spots as one; None of none."""
    if not spots:
        return None
    left, top, right, bottom = zip(*(spot.box for spot in spots))
    return Spot((min(left), min(top), max(right), max(bottom)), sum(spot.area for spot in spots))


def cut_out(picture: np.ndarray, spot: Spot | None, room: float = 1.15) -> np.ndarray:
    """The square around a spot with some room, its picture's edge repeated beyond it; all of it for None."""
    if spot is None:
        return picture
    left, top, right, bottom = spot.box
    side = max(8, round(max(right - left, bottom - top) * room))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    rows = np.clip(np.arange(y, y + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, picture.shape[1] - 1)
    return picture[rows[:, None], columns]


def thing_word(picture: np.ndarray) -> str | None:
    """The commonest colour word of what is not ground; None where no colour covers a fifth of it."""
    mask = things_mask(picture)
    if not mask.any():
        return None
    _, saturation, value = np.median(hsv(picture)[mask], 0)
    if saturation < 50:
        return "black" if value < 90 else "gray" if value < 205 else "white"
    worn = coat(np.dstack([picture, np.where(mask, 255, 0).astype(np.uint8)]))
    word = worn.word or (hue_word(worn.hue) if worn.share > 0.2 else None)
    return "brown" if word in ("red", "orange") and 8 < worn.hue / 256 * 360 < 40 and value < 165 else word


def place_word(picture: np.ndarray) -> str | None:
    """Which of the nine places the things of a picture are nearest to; None where there is nothing."""
    if (whole := around(spots(picture))) is None:
        return None
    height, width = picture.shape[:2]
    x, y = whole.centre[0] / width, whole.centre[1] / height
    return min(PLACES, key=lambda word: (PLACES[word][0] - x) ** 2 + (PLACES[word][1] - y) ** 2)


def relation_word(first: Spot, second: Spot) -> str:
    """Where the first lies as seen from the second, by the axis on which they lie further apart."""
    (x0, y0), (x1, y1) = first.centre, second.centre
    if abs(x0 - x1) >= abs(y0 - y1):
        return "left of" if x0 < x1 else "right of"
    return "above" if y0 < y1 else "below"


def redness(pictures: np.ndarray) -> float:
    """The share of clearly coloured pixels whose hue is called red; pictures (B, H, W, 3) uint8."""
    hue, saturation, value = hsv(np.concatenate(pictures)).transpose(2, 0, 1)
    seen = np.bincount(hue[(saturation > 90) & (value > 90)], minlength=256)
    return float(sum(seen[h] for h in range(256) if hue_word(h) == "red") / max(1, seen.sum()))
