"""The colour words of Toyland live here: what each looks like, and how a drawing is repainted in it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

# name -> (hue in degrees, saturation factor, value factor, value gamma); hue None keeps only light and shade.
PAINTS: dict[str, tuple[float | None, float, float, float]] = {
    "red": (356, 1.1, 0.95, 1.0),
    "orange": (24, 1.1, 1.0, 0.8),
    "yellow": (50, 1.0, 1.0, 0.6),
    "green": (125, 0.95, 0.85, 0.9),
    "teal": (178, 0.95, 0.85, 0.9),
    "blue": (216, 1.1, 0.95, 0.9),
    "purple": (272, 0.85, 0.9, 0.9),
    "pink": (330, 0.55, 1.0, 0.6),
    "brown": (22, 0.85, 0.55, 1.0),
    "black": (None, 0.08, 0.28, 1.2),
    "white": (None, 0.05, 1.0, 0.25),
    "gray": (None, 0.05, 0.7, 0.8),
}
# What a word means as a flat fill: the ink of a line drawing, or the ground behind a thing.
FILLS: dict[str, tuple[int, int, int]] = {
    "red": (221, 46, 58),
    "orange": (247, 138, 40),
    "yellow": (252, 210, 61),
    "green": (66, 170, 86),
    "teal": (38, 170, 170),
    "blue": (54, 118, 226),
    "purple": (138, 84, 205),
    "pink": (249, 148, 190),
    "brown": (133, 84, 52),
    "black": (26, 26, 30),
    "white": (252, 252, 252),
    "gray": (150, 152, 158),
}
GROUNDS: dict[str, tuple[int, int, int]] = {
    **FILLS,
    "light blue": (176, 216, 245),
    "light green": (190, 232, 190),
    "cream": (250, 240, 214),
    "dark blue": (28, 42, 92),
}
HUES = (
    (12, "red"),
    (40, "orange"),
    (66, "yellow"),
    (162, "green"),
    (196, "teal"),
    (250, "blue"),
    (290, "purple"),
    (343, "pink"),
    (361, "red"),
)


@dataclass(frozen=True)
class Coat:
    """What a drawing wears: its commonest hue (0..255), the share of pixels in it, and the word for it."""

    hue: float
    share: float
    word: str | None


def hsv(rgb: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) uint8 RGB to HSV, all three in 0..255."""
    return np.asarray(Image.fromarray(rgb).convert("HSV"))


def hue_distance(hue: np.ndarray, centre: float) -> np.ndarray:
    """Signed distance on the circle of 256 hues, in -128..127."""
    return (hue.astype(np.int16) - int(centre) + 128) % 256 - 128


def hue_word(hue: float) -> str:
    """The word for a hue, 0 to 256 around the circle."""
    return next(word for edge, word in HUES if hue / 256 * 360 < edge)


def coat(rgba: np.ndarray) -> Coat:
    """Measure which colour word fits a drawing (H, W, 4): None when no single one covers over half of it."""
    solid = rgba[..., 3] > 128
    h, s, v = np.moveaxis(hsv(np.ascontiguousarray(rgba[..., :3]))[solid], -1, 0)
    if not len(h):
        return Coat(0, 0, None)
    bright = (s > 64) & (v > 50)
    counts = np.bincount(h[bright], weights=s[bright].astype(float), minlength=256)
    smooth = sum((9 - abs(k)) * np.roll(counts, k) for k in range(-8, 9))
    hue = float(np.argmax(smooth))
    near = bright & (np.abs(hue_distance(h, hue)) < 22)
    share = float(near.mean())
    if share < 0.5:
        pale, dark = float(((s < 40) & (v > 190)).mean()), float((v < 70).mean())
        return Coat(hue, share, "white" if pale > 0.7 else "black" if dark > 0.7 else None)
    word, degrees = hue_word(hue), hue / 256 * 360
    if word in ("orange", "red", "yellow") and np.median(v[near]) < 165 and degrees < 60 and degrees > 8:
        word = "brown"
    return Coat(hue, share, word)


def repaint(rgba: np.ndarray, worn: Coat, word: str) -> np.ndarray:
    """Repaint the pixels that wear the coat in another colour word; eyes, leaves and highlights stay."""
    hue, saturation, value, gamma = PAINTS[word]
    h, s, v = np.moveaxis(hsv(np.ascontiguousarray(rgba[..., :3])), -1, 0)
    offset = hue_distance(h, worn.hue)
    chosen = (np.abs(offset) < 28) & (s > 40)
    fresh = np.stack([h, s, v], -1).astype(np.float32)
    if hue is not None:
        fresh[..., 0] = (hue / 360 * 256 + 0.4 * offset) % 256
    fresh[..., 1] = np.clip(s * saturation, 0, 255)
    # Deep shades of the old colour would make a muddy new one, so light is spread before it is scaled.
    fresh[..., 2] = np.clip(255 * (v / 255.0) ** gamma * value, 0, 255)
    painted = np.where(chosen[..., None], fresh, np.stack([h, s, v], -1)).astype(np.uint8)
    rgb = np.asarray(Image.fromarray(painted, "HSV").convert("RGB"))
    return np.concatenate([rgb, rgba[..., 3:]], -1)


def ink(rgba: np.ndarray, word: str) -> np.ndarray:
    """Fill a silhouette with the plain colour of a word."""
    rgb = np.broadcast_to(np.array(FILLS[word], np.uint8), (*rgba.shape[:2], 3))
    return np.concatenate([rgb, rgba[..., 3:]], -1)
