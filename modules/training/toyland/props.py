"""The props of a scene live here: simple objects, the mannequin, the colours that they wear."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .shapes import UP, Body, Cushion, RoundCone, Solid, cross, unit

COLOURS = {
    "red": (234, 62, 60), "orange": (252, 144, 46), "yellow": (255, 208, 58), "green": (82, 184, 88),
    "teal": (30, 176, 172), "light blue": (118, 196, 250), "blue": (58, 116, 238), "purple": (146, 92, 224),
    "pink": (252, 134, 178), "brown": (158, 100, 64), "white": (248, 246, 242), "grey": (150, 153, 162),
    "black": (50, 52, 60),
}
CLAYS = ("red", "orange", "yellow", "green", "teal", "light blue", "blue", "purple", "pink", "grey")
SKINS = ((255, 212, 180), (242, 186, 146), (206, 148, 108), (150, 100, 72), (106, 70, 52), (255, 206, 84))
HAIRS = {"black": (50, 52, 60), "brown": (122, 72, 42), "orange": (226, 112, 40), "yellow": (250, 208, 92),
         "pink": (252, 134, 178), "blue": (58, 116, 238)}
UPRIGHT = np.eye(3)
ON_RIM = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # turns a body's up toward the camera


class Prop(NamedTuple):
    """How an object is built for a radius r, and its measures as multiples of r."""

    build: Callable[[float], list]
    foot: float  # half-width of the floor it needs
    height: float
    flat: bool = False  # another thing can stand on it
    accents: tuple[str, ...] = ()  # the colours 1, 2, ... of its bodies; 0 is its own


def _ball(centre, radius, colour=0):
    centre = np.array(centre, float)
    return RoundCone(centre, centre, radius, radius, colour)


def _bar(a, b, ra, rb, colour=0):
    return RoundCone(np.array(a, float), np.array(b, float), ra, rb, colour)


def _solid(kind, *size):
    return lambda r: [Solid(kind, UP * size[1] * r, UPRIGHT, tuple(s * r for s in size))]


def _egg(r):
    return [_bar((0, 0.78 * r, 0), (0, 1.25 * r, 0), 0.78 * r, 0.55 * r)]


def _pill(r):
    return [_bar((-0.7 * r, 0.5 * r, 0), (0.7 * r, 0.5 * r, 0), 0.5 * r, 0.5 * r)]


def _ring(r):
    return [Solid("ring", UP * r, ON_RIM, (0.75 * r, 0.25 * r, 0.0))]


def _star(r):
    return [Solid("star", UP * 0.92 * r, UPRIGHT, (1.1 * r, 0.28 * r, 0.12 * r))]


def _snowman(r):
    balls = [_ball((0, y * r, 0), k * r) for y, k in ((0.62, 0.66), (1.5, 0.5), (2.2, 0.36))]
    nose = _bar((0, 2.2 * r, 0.32 * r), (0, 2.18 * r, 0.62 * r), 0.09 * r, 0.03 * r, 1)
    return [*balls, nose, *(_ball((x * r, 2.32 * r, 0.32 * r), 0.045 * r, 2) for x in (-0.13, 0.13))]


def _tree(r):
    trunk = Solid("cylinder", UP * 0.35 * r, UPRIGHT, (0.2 * r, 0.35 * r, 0.05 * r), 1)
    return [trunk, *(Solid("cone", UP * y * r, UPRIGHT, (w * r, 0.5 * r, 0.1 * r))
                     for y, w in ((1.0, 0.86), (1.55, 0.68), (2.05, 0.5)))]


def _mushroom(r):
    stem = _bar((0, 0.34 * r, 0), (0, 0.8 * r, 0), 0.34 * r, 0.26 * r, 1)
    cap = _bar((0, r, 0), (0, 1.25 * r, 0), 0.72 * r, 0.5 * r)
    around = [(0.6 * np.cos(a), 1.22, 0.6 * np.sin(a)) for a in (0.3, 1.5, 2.7, 3.9, 5.2)]
    return [stem, cap, *(_ball(np.array(spot) * r, 0.15 * r, 1) for spot in around)]


def _lollipop(r):
    return [_bar((0, 0.08 * r, 0), (0, 1.4 * r, 0), 0.08 * r, 0.08 * r, 1), _ball((0, 1.75 * r, 0), 0.55 * r)]


PROPS = {
    "ball": Prop(lambda r: [_ball((0, r, 0), r)], 1.0, 2.0),
    "cube": Prop(_solid("box", 0.85, 0.85, 0.85), 1.2, 1.7, flat=True),
    "block": Prop(_solid("box", 1.1, 0.5, 0.75), 1.35, 1.0, flat=True),
    "cylinder": Prop(_solid("cylinder", 0.75, 0.85, 0.12), 0.75, 1.7, flat=True),
    "pillar": Prop(_solid("cylinder", 0.5, 1.3, 0.1), 0.5, 2.6, flat=True),
    "cone": Prop(_solid("cone", 0.9, 1.0, 0.1), 0.9, 2.0),
    "egg": Prop(_egg, 0.8, 1.8),
    "pill": Prop(_pill, 1.2, 1.0),
    "ring": Prop(_ring, 0.8, 2.0),
    "donut": Prop(_solid("ring", 0.67, 0.33, 0.0), 1.0, 0.66),
    "star": Prop(_star, 0.9, 2.0),
    "snowman": Prop(_snowman, 0.66, 2.56, accents=("orange", "black")),
    "tree": Prop(_tree, 0.86, 2.55, accents=("brown",)),
    "mushroom": Prop(_mushroom, 0.72, 1.75, accents=("white",)),
    "lollipop": Prop(_lollipop, 0.55, 2.3, accents=("white",)),
}
RADII = {"small": 0.2, "": 0.28, "big": 0.4}


def mannequin(joints: dict, hair: bool = False) -> list[Body]:
    """The figure around its joints; colours 0 skin, 1 shirt, 2 trousers, 3 shoes, 4 face, 5 hair."""
    up = unit(joints["neck"] - joints["pelvis"])
    across = unit(joints["left_shoulder"] - joints["right_shoulder"])
    waist, chest = joints["pelvis"] + 0.115 * up, joints["neck"] - 0.115 * up
    hips = [joints[f"{side}_hip"] * 0.6 + joints[f"{other}_hip"] * 0.4 + 0.03 * up
            for side, other in (("right", "left"), ("left", "right"))]
    corners = (waist - 0.035 * across, waist + 0.035 * across, chest + 0.075 * across, chest - 0.075 * across)
    trunk = [Cushion(np.stack(corners), 0.132, 1), RoundCone(hips[0], hips[1], 0.142, 0.142, 2),
             RoundCone(joints["neck"] - 0.02 * up, joints["head"], 0.066, 0.062, 0)]
    return [*trunk, *_head(joints, hair), *_limbs(joints, "right"), *_limbs(joints, "left")]


def _head(joints, hair):
    head, crown = joints["head"], unit(joints["crown"] - joints["head"])
    left = unit(joints["left_ear"] - joints["right_ear"])
    ahead = cross(left, crown)
    lips = ((-0.24, -0.37), (0, -0.46), (0.24, -0.37))
    smile = [head + 0.2 * unit(x * left + y * crown + ahead) for x, y in lips]
    parts = [
        RoundCone(head - 0.012 * crown, head + 0.03 * crown, 0.205, 0.198, 0),
        RoundCone(0.85 * joints["nose"] + 0.15 * head, joints["nose"], 0.028, 0.024, 0, detail=True),
        RoundCone(smile[0], smile[1], 0.011, 0.013, 4, detail=True),
        RoundCone(smile[1], smile[2], 0.013, 0.011, 4, detail=True),
    ]
    for side in ("right", "left"):
        eye, ear = joints[f"{side}_eye"], joints[f"{side}_ear"]
        parts += [RoundCone(eye - 0.008 * crown, eye + 0.016 * crown, 0.024, 0.024, 4, detail=True),
                  RoundCone(ear, ear, 0.048, 0.048, 0, detail=True)]
    if hair:
        fringe = head + 0.17 * crown + 0.085 * ahead
        back = head + 0.045 * crown - 0.035 * ahead
        parts += [RoundCone(back, back + 0.015 * crown + 0.01 * ahead, 0.207, 0.2, 5),
                  RoundCone(fringe - 0.07 * left, fringe + 0.08 * left, 0.07, 0.06, 5)]
    return parts


def _limbs(joints, side):
    spot = {name.removeprefix(f"{side}_"): where for name, where in joints.items() if name.startswith(side)}
    return [
        RoundCone(spot["shoulder"], spot["elbow"], 0.082, 0.066, 1),
        RoundCone(spot["elbow"], spot["wrist"], 0.06, 0.05, 0),
        RoundCone(spot["wrist"], spot["hand"], 0.055, 0.07, 0),
        RoundCone(spot["hip"], spot["knee"], 0.11, 0.086, 2),
        RoundCone(spot["knee"], spot["ankle"], 0.086, 0.074, 2),
        RoundCone(spot["heel"], spot["toe"], 0.068, 0.078, 3),
    ]
