"""Compositions: icons laid on a ground so that what a caption says of them is true by construction."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from modules.training.toyland.colours import FILLS, GROUNDS, PAINTS, Coat, coat, ink, repaint
from modules.training.toyland.emoji import CLASSES, SIZE, STYLES

STYLE_SHARES = {"3d": 0.66, "flat": 0.1, "cartoon": 0.14, "line": 0.1}
LAYOUT_SHARES = {"single": 0.72, "count": 0.1, "pair": 0.18}
SIZES = {"big": (0.8, 0.92), "": (0.62, 0.8), "small": (0.34, 0.46), "tiny": (0.2, 0.28)}
PLACES = {
    "in the center": (0.5, 0.5),
    "on the left": (0.24, 0.5),
    "on the right": (0.76, 0.5),
    "at the top": (0.5, 0.24),
    "at the bottom": (0.5, 0.76),
    "in the top left corner": (0.24, 0.24),
    "in the top right corner": (0.76, 0.24),
    "in the bottom left corner": (0.24, 0.76),
    "in the bottom right corner": (0.76, 0.76),
}
RELATIONS = {
    "left of": ((-1, 0), (1, 0)),
    "right of": ((1, 0), (-1, 0)),
    "above": ((0, -1), (0, 1)),
    "below": ((0, 1), (0, -1)),
}


@dataclass(frozen=True)
class Item:
    """One icon in a composition: its names, the colour word it wears or None, where and how big it is."""

    label: str
    names: tuple[str, ...]
    colour: str | None
    repainted: bool
    row: int
    centre: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class Composition:
    """All that is true of one picture: layout, style, ground, and the items from back to front."""

    layout: str
    style: str
    ground: str
    graded: bool
    size: str
    place: str
    relation: str
    items: tuple[Item, ...]


def _share(*words: str) -> float:
    return zlib.crc32("|".join(words).encode()) / 2**32


def is_pair_held_out(label: str, colour: str) -> bool:
    """Say whether a thing repainted in a colour is kept for evaluation, as a tenth of all such pairs are."""
    return _share(label, colour) < 0.1


def are_held_out(label: str, other: str) -> bool:
    """Say whether two things together are kept for evaluation, as a tenth of all such pairs are."""
    return _share(*sorted((label, other))) < 0.1


def is_held_out(composition: Composition) -> bool:
    """Say whether a composition is kept for evaluation.

    So are a tenth of all (thing, repainted colour) pairs and a tenth of all (thing, thing) pairs.
    """
    items = composition.items
    if any(item.repainted and is_pair_held_out(item.label, str(item.colour)) for item in items):
        return True
    return composition.layout == "pair" and are_held_out(*(item.label for item in items))


def is_plain(composition: Composition) -> bool:
    """Say whether a picture shows one thing as its name alone promises.

    In its own colours, in 3D, large and in the middle.
    """
    usual = composition.layout == "single" and composition.style == "3d" and composition.size in ("", "big")
    return usual and composition.place == "in the center" and not composition.items[0].repainted


class Toyland:
    """Draws compositions from the icons in `folder`; every draw is decided by the generator passed in."""

    def __init__(self, folder: Path):
        self.pixels = np.load(folder / "icons.npy", mmap_mode="r")
        self.rows = json.loads((folder / "icons.json").read_text())
        coats = folder / "coats.json"
        if not coats.exists():
            coats.write_text(json.dumps([vars(coat(np.asarray(rgba))) for rgba in self.pixels]))
        self.coats = [Coat(**record) for record in json.loads(coats.read_text())]
        weights = {"person": 0.25, "face": 0.8}
        self.by_style: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for style in STYLES:
            indices = np.array([i for i, row in enumerate(self.rows) if row["style"] == style])
            p = np.array(
                [
                    6.0 if self.rows[i]["label"] in CLASSES else weights.get(self.rows[i]["group"], 1.0)
                    for i in indices
                ]
            )
            self.by_style[style] = indices, p / p.sum()

    def _item(
        self,
        rng: np.random.Generator,
        style: str,
        ground: str,
        centre: tuple[float, float],
        scale: float,
        row: int | None = None,
    ) -> Item:
        indices, p = self.by_style[style]
        row = int(rng.choice(indices, p=p)) if row is None else row
        record, worn = self.rows[row], self.coats[row]
        colour, repainted = worn.word, False
        if style == "line":
            colour, repainted = (
                ("black", False)
                if ground != "black" and rng.random() < 0.4
                else (self._paint(rng, ground, FILLS), True)
            )
        elif worn.share > 0.35 and rng.random() < 0.5:
            colour, repainted = self._paint(rng, ground, PAINTS), True
        return Item(record["label"], tuple(record["names"]), colour, repainted, row, centre, scale)

    @staticmethod
    def _paint(rng: np.random.Generator, ground: str, words: dict) -> str:
        """Draw a colour word that the ground does not swallow."""
        usable = [word for word in words if word not in ground]
        p = np.array([0.35 if word in ("black", "white", "gray", "brown") else 1.0 for word in usable])
        return str(rng.choice(usable, p=p / p.sum()))

    def compose(self, rng: np.random.Generator, plain: bool = False) -> Composition:
        """Draw a composition that is not held out; `plain` asks for a white or cream ground more often."""
        while True:
            composition = self._compose(rng, plain)
            if not is_held_out(composition):
                return composition

    def compose_held_out(self, rng: np.random.Generator) -> Composition:
        """Draw a composition that nothing is trained on."""
        while not is_held_out(composition := self._compose(rng, plain=False)):
            pass
        return composition

    def _compose(self, rng: np.random.Generator, plain: bool) -> Composition:
        style = str(rng.choice(list(STYLE_SHARES), p=list(STYLE_SHARES.values())))
        layout = str(rng.choice(list(LAYOUT_SHARES), p=list(LAYOUT_SHARES.values())))
        ground = "white" if rng.random() < (0.9 if plain else 0.3) else str(rng.choice(list(GROUNDS)))
        graded = bool(ground not in ("white", "black") and rng.random() < 0.3)
        size, place, relation = "", "in the center", ""
        if layout == "single":
            if rng.random() < 0.25:
                size = str(rng.choice(["small", "tiny", "big"], p=[0.5, 0.2, 0.3]))
            if size in ("small", "tiny") and rng.random() < 0.75:
                place = str(rng.choice(list(PLACES)))
            jitter = rng.normal(0, 0.012, 2)
            centre = PLACES[place][0] + jitter[0], PLACES[place][1] + jitter[1]
            items = [self._item(rng, style, ground, centre, rng.uniform(*SIZES[size]))]
        elif layout == "count":
            spots = (
                [(0.27, 0.5), (0.73, 0.5)]
                if rng.random() < 0.5
                else [(0.5, 0.27), (0.26, 0.72), (0.74, 0.72)]
            )
            first = self._item(rng, style, ground, spots[0], 0.44)
            items = [
                Item(
                    first.label,
                    first.names,
                    first.colour,
                    first.repainted,
                    first.row,
                    (x + rng.normal(0, 0.01), y + rng.normal(0, 0.02)),
                    0.44,
                )
                for x, y in spots
            ]
        else:
            relation = str(rng.choice(list(RELATIONS)))
            items = []
            for dx, dy in RELATIONS[relation]:
                centre = 0.5 + 0.24 * dx + rng.normal(0, 0.012), 0.5 + 0.24 * dy + rng.normal(0, 0.012)
                items.append(self._item(rng, style, ground, centre, rng.uniform(0.42, 0.5)))
        return Composition(layout, style, ground, graded, size, place, relation, tuple(items))

    def render(self, composition: Composition) -> np.ndarray:
        """Paint a composition as a (256, 256, 3) uint8 picture; 3D things throw a soft shadow."""
        ground = np.array(GROUNDS[composition.ground], np.float32)
        canvas = np.broadcast_to(ground, (SIZE, SIZE, 3)).copy()
        if composition.graded:
            ramp = np.linspace(0.22, -0.12, SIZE, dtype=np.float32)[:, None, None]
            canvas = np.where(ramp > 0, canvas + ramp * (255 - canvas), canvas * (1 + ramp))
        for item in composition.items:
            side = round(item.scale * SIZE)
            # Premultiplied, so that the colour under fully clear pixels does not bleed into the edge.
            icon = Image.fromarray(np.asarray(self.pixels[item.row]), "RGBA").convert("RGBa")
            rgba = np.asarray(icon.resize((side, side), Image.Resampling.BILINEAR).convert("RGBA"))
            if composition.style == "line":
                rgba = ink(rgba, item.colour or "black")
            elif item.repainted and item.colour:
                rgba = repaint(rgba, self.coats[item.row], item.colour)
            picture = np.asarray(Image.fromarray(np.ascontiguousarray(rgba), "RGBA").convert("RGBa"))
            left, top = round(item.centre[0] * SIZE - side / 2), round(item.centre[1] * SIZE - side / 2)
            if composition.style == "3d":
                _lay(canvas, _shadow(picture[..., 3]), left + round(0.01 * side), top + round(0.05 * side))
            _lay(canvas, picture, left, top)
        return canvas.clip(0, 255).round().astype(np.uint8)


def _shadow(alpha: np.ndarray) -> np.ndarray:
    blurred = np.asarray(
        Image.fromarray(alpha).filter(ImageFilter.GaussianBlur(max(1, alpha.shape[0] // 28)))
    )
    return np.concatenate(
        [np.zeros((*alpha.shape, 3), np.float32), blurred[..., None] * np.float32(0.28)], -1
    )


def _lay(canvas: np.ndarray, picture: np.ndarray, left: int, top: int) -> None:
    """Lay a premultiplied RGBA picture over the canvas, in place, cut at its edges."""
    height, width = picture.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, SIZE), min(left + width, SIZE)
    if y0 < y1 and x0 < x1:
        piece = picture[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
        canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - piece[..., 3:] / 255) + piece[..., :3]
