"""The closest training picture beside each painted one, so that memory and invention can be told apart."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from modules.models.latent import LatentModel
from modules.training.scores.judge import named
from modules.training.scores.looking import Spot, around, cut_out, ground_of, spots, things_mask
from modules.training.scores.painting import paint
from modules.training.scores.prompts import painted, some
from modules.training.scores.sheets import contact_sheet
from modules.training.toyland.colours import FILLS, PAINTS, ink, repaint
from modules.training.toyland.compose import Toyland, is_pair_held_out

COUNT = 32
SHORTLIST = 8  # icons closest to the judge, and as many closest in outline: the pixels choose among them
OUTLINE = 24  # pixels across


def neighbours(model: LatentModel, data: Path, out: Path) -> dict[str, Any]:
    """Paint things in colours that nobody saw them in, find each its closest icon, and lay it down alike.

    An icon is tried in its own colours and in each that Toyland paints it in and that was trained on. The
    distance is the root mean square over the pixels around the thing, from 0 to 255.
    """
    toyland = Toyland(data)
    asked = some(list(painted()), COUNT / len(list(painted())))
    pictures = paint(model, [one.task for one in asked])
    seen = known(toyland)
    found = [closest(picture, toyland, seen) for picture in pictures]
    shown, titles = [], []
    for one, picture, (copy, said, off) in zip(asked, pictures, found):
        shown += [picture, copy]
        titles += [one.task.prompt, f"{said}: {off:.0f} off"]
    contact_sheet(shown, titles, 8, 160, lines=2).save(out / "neighbours.jpg", quality=85)
    offs = [off for _, _, off in found]
    return {
        "pictures": len(offs),
        "pixels off the closest, median": round(float(np.median(offs)), 1),
        "least": round(min(offs), 1),
        "true pictures off the closest but themselves, median": round(true_offs(toyland, seen), 1),
    }


class Known(NamedTuple):
    """Every icon as the judge sees it on white, (N, width) of unit length, and its outline, (N, 24, 24)."""

    features: np.ndarray
    outlines: np.ndarray

    def closest_to(self, picture: np.ndarray, spot: Spot) -> list[int]:
        """The rows of the icons closest to a picture's thing, in the judge's eyes and in outline."""
        mine = unit(named([cut_out(picture, spot)]).features)[0]
        mask = outline(cut_out(things_mask(picture)[..., None] * np.uint8(255), spot)[..., 0])
        orders = np.argsort(-self.features @ mine), np.argsort(np.square(self.outlines - mask).sum((1, 2)))
        return [int(row) for pair in zip(*orders) for row in pair]


def known(toyland: Toyland) -> Known:
    """Look at every icon."""
    cuts, outlines = [], []
    for rgba in toyland.pixels:
        icon = Image.fromarray(np.asarray(rgba), "RGBA").resize((128, 128), Image.Resampling.BOX)
        spot = Spot(icon.getchannel("A").getbbox() or (0, 0, 1, 1), 1)
        white = Image.alpha_composite(Image.new("RGBA", icon.size, "white"), icon).convert("RGB")
        cuts.append(cut_out(np.asarray(white), spot))
        outlines.append(outline(cut_out(np.asarray(icon)[..., 3:], spot)[..., 0]))
    return Known(unit(named(cuts).features), np.stack(outlines))


def outline(alpha: np.ndarray) -> np.ndarray:
    """A square of opacities, 0 to 255, made small, from 0 to 1."""
    small = Image.fromarray(np.ascontiguousarray(alpha)).resize((OUTLINE, OUTLINE), Image.Resampling.BOX)
    return np.asarray(small) / np.float32(255)


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def closest(
    picture: np.ndarray, toyland: Toyland, seen: Known, but: int | None = None
) -> tuple[np.ndarray, str, float]:
    """The icon closest to a picture's thing, laid on the picture's ground; its name, and how far it is off.

    `but` is the row of an icon whose thing is passed over.
    """
    spot = around(spots(picture)) or Spot((0, 0, picture.shape[1], picture.shape[0]), 1)
    passed = None if but is None else toyland.rows[but]["label"]
    order = [row for row in seen.closest_to(picture, spot) if toyland.rows[row]["label"] != passed]
    best: tuple[np.ndarray, str, float] | None = None
    for row in dict.fromkeys(order[: 2 * SHORTLIST]):
        for rgba, word in coats(toyland, row):
            laid = lay(rgba, picture, spot)
            off = float(np.sqrt(np.square(cut_out(laid, spot) - cut_out(picture, spot)).mean()))
            if best is None or off < best[2]:
                name = f"{toyland.rows[row]['names'][0]}, {toyland.rows[row]['style']}"
                best = laid.round().astype(np.uint8), f"{word} {name}".strip(), off
    assert best is not None
    return best


def coats(toyland: Toyland, row: int) -> list[tuple[np.ndarray, str]]:
    """An icon as it is, and repainted in each colour that was trained on, with the colours' words."""
    rgba, coat, record = np.asarray(toyland.pixels[row]), toyland.coats[row], toyland.rows[row]
    small = np.asarray(Image.fromarray(rgba, "RGBA").resize((96, 96)))
    if record["style"] == "line":
        painted = {word: ink(small, word) for word in FILLS}
    else:
        painted = {word: repaint(small, coat, word) for word in PAINTS} if coat.share > 0.35 else {}
    trained = [word for word in painted if not is_pair_held_out(record["label"], word)]
    return [(small, ""), *((painted[word], word) for word in trained)]


def lay(rgba: np.ndarray, picture: np.ndarray, spot: Spot) -> np.ndarray:
    """An icon laid on the ground of a picture so that what it holds fills the spot; float64."""
    icon = Image.fromarray(np.ascontiguousarray(rgba), "RGBA").convert("RGBa")
    icon = icon.crop(icon.getchannel("a").point(lambda a: 255 * (a > 8)).getbbox())
    left, top, right, bottom = spot.box
    scale = max(right - left, bottom - top) / max(icon.size)
    size = max(1, round(icon.width * scale)), max(1, round(icon.height * scale))
    held = np.asarray(icon.resize(size, Image.Resampling.BILINEAR)).astype(np.float64)
    canvas = np.broadcast_to(ground_of(picture), picture.shape).copy()
    x, y = round((left + right - size[0]) / 2), round((top + bottom - size[1]) / 2)
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + size[1], len(canvas)), min(x + size[0], canvas.shape[1])
    piece = held[y0 - y : y1 - y, x0 - x : x1 - x]
    canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - piece[..., 3:] / 255) + piece[..., :3]
    return canvas


def true_offs(toyland: Toyland, seen: Known, count: int = 16) -> float:
    """How far true icons on white are off the closest icon of any other thing, the median."""
    rows = [i for i, row in enumerate(toyland.rows) if row["style"] == "3d"]
    offs = []
    for row in rows[:: len(rows) // count][:count]:
        white = np.full((256, 256, 3), 252, np.uint8)
        picture = lay(np.asarray(toyland.pixels[row]), white, Spot((30, 30, 226, 226), 1))
        offs.append(closest(picture.round().astype(np.uint8), toyland, seen, but=row)[2])
    return float(np.median(offs))
