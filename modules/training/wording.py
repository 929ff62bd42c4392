"""Whether a scene's picture has the colours that its caption names is read here, where they should be.

A wall is read in the picture's upper corners, a thing inside its own outline, clothes on trunk and thighs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from modules.conditions.pose import KEYPOINTS
from modules.training.toyland.props import COLOURS
from modules.training.toyland.scene_words import CLAY, NOUNS, SPELLINGS
from modules.training.toyland.scenes import BACKDROPS, Scene

SHADES = (0.65, 0.8, 0.9, 1.0)  # of a thing's own colour, that light leaves
EDGE = 3  # pixels of a thing's outline that are not read, at 256: its rim is darker, and other things begin
TONES = ("light", "dark", "pale", "sky")  # with which a colour is another one
FEWEST = 30  # pixels, at 256, by which a colour can be told
WALLS = ("wall", "backdrop", "background")
CLOTHES = {"shirt": ("shirt", "top"), "trousers": ("trousers", "pants"), "body": [one[2:] for one in CLAY]}
TRUNK = [KEYPOINTS.index(f"{one}") for one in ("right_shoulder", "left_shoulder", "left_hip", "right_hip")]
THIGHS = [[KEYPOINTS.index(f"{side}_{joint}") for joint in ("hip", "knee")] for side in ("left", "right")]


def colours_right(picture: np.ndarray, one: Scene, caption: str) -> dict[str, list[bool]]:
    """For walls, things and clothes, whether each colour that the caption names is there."""
    walls = [wall_word(picture) == wall for wall in named_wall(one, caption)]
    right: dict[str, list[bool]] = {"walls": walls, "things": [], "clothes": []}
    for kind, word, where in named(one, caption):
        if where.sum() >= FEWEST:
            right[kind].append(colour_word(picture[where]) == word)
    return right


def named_wall(one: Scene, caption: str) -> Iterator[str]:
    """The wall's colour, where the caption names it and the wall has no other."""
    word = one.facts["background"]
    if one.facts["style"] != "gradient" and says(caption, word, WALLS):
        yield word


def named(one: Scene, caption: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Every colour of a thing or of clothes that the caption names, and the pixels that should have it."""
    for i, thing in enumerate(one.facts["things"]):
        nouns = NOUNS.get(thing["name"], ())
        if says(caption, thing["colour"], nouns):
            yield "things", thing["colour"], ndimage.binary_erosion(one.mask == i + 1, iterations=EDGE)
    for part, nouns in CLOTHES.items():
        word = one.facts["person"].get(part)
        if word and says(caption, word, nouns):
            figure = ndimage.binary_erosion(one.mask == 1, iterations=EDGE)
            yield "clothes", word, figure if part == "body" else figure & worn(one, part)


def says(caption: str, colour: str | None, nouns: Sequence[str]) -> bool:
    """Whether a caption speaks of one of the nouns in that colour."""
    ways = SPELLINGS.get(colour, (colour,)) if colour else ()
    said = re.findall(rf"(?:({'|'.join(TONES)}) )?(\S+) (?={'|'.join(nouns)})", caption)
    return any((tone, word) == way.rpartition(" ")[::2] for tone, word in said for way in ways)


def worn(one: Scene, part: str) -> np.ndarray:
    """Where on the picture the trunk, or the thighs, should be, (H, W) booleans."""
    assert one.keypoints is not None  # whoever is dressed has joints
    spots = one.keypoints[:, :2]
    sheet = Image.new("1", one.image.shape[1::-1])
    draw = ImageDraw.Draw(sheet)
    if part == "shirt":
        trunk = spots[TRUNK]
        draw.polygon([tuple(at) for at in trunk.mean(0) + 0.7 * (trunk - trunk.mean(0))], fill=1)
    else:
        for hip, knee in THIGHS:
            ends = [spots[hip] + share * (spots[knee] - spots[hip]) for share in (0.3, 0.9)]
            draw.line([tuple(at) for at in ends], fill=1, width=max(3, len(one.image) // 50))
    return np.asarray(sheet)


def wall_word(picture: np.ndarray) -> str:
    """The wall colour nearest to the picture's upper corners."""
    corner = np.median(np.concatenate([picture[:24, :24], picture[:24, -24:]]).reshape(-1, 3), 0)
    return min(BACKDROPS, key=lambda word: np.abs(corner - np.array(BACKDROPS[word])).sum())


def colour_word(pixels: np.ndarray) -> str:
    """The word for the middle colour of pixels (N, 3), among the colours of things, lit or in shade."""
    middle = np.median(pixels, 0)
    shades = {word: np.outer(SHADES, rgb) for word, rgb in COLOURS.items()}
    return min(shades, key=lambda word: np.abs(shades[word] - middle).sum(1).min())
