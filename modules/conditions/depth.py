"""Distances, or a few shapes on a floor, become a depth map here: eight bits, near is white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


def depth_map(distance: np.ndarray) -> Image.Image:
    """A picture of (H, W) distances from the camera: their inverses, stretched from black to white.

    The inverse is what monocular depth estimators give, so a map from here and one from there look alike. The
    outermost half per cent on either end does not decide the stretch.
    """
    nearness = 1 / np.maximum(np.asarray(distance, np.float32), 1e-6)
    return stretched(nearness)


def stretched(nearness: np.ndarray) -> Image.Image:
    """(H, W) of larger is nearer, on any scale, as a map; all of one distance is all grey."""
    far, near = np.percentile(nearness, (0.5, 99.5))
    share = (nearness - far) / (near - far) if near > far else np.full_like(nearness, 0.5)
    grey = (np.clip(share, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


# The stage for a few shapes: a floor that begins at HORIZON of the height, before a wall. Nearness, which is
# the inverse of distance, is FAR at the wall, 1 at the lower edge, and on a level floor linear in between.
HORIZON, FAR = 0.45, 0.25
# Half the width and the height of each shape over its size.
SHAPES = {"ball": (1.0, 2.0), "box": (1.0, 1.6), "pillar": (0.5, 3.0)}
SMALLEST, LARGEST, MOST_SHAPES = 0.05, 0.8, 20


class ShapeError(ValueError):
    """Shapes that cannot be drawn; the message is a sentence for whoever sent them."""


@dataclass(frozen=True)
class Shape:
    """A body on the floor: where it stands, (x, y) in 0..1 of the picture, and its size.

    The size is half its width at the lower edge, for a ball or a box, over the picture's shorter side.
    The lower it stands the nearer it is, and the larger it looks.
    """

    kind: str
    x: float
    y: float
    size: float


def shapes_of(values: Any) -> tuple[Shape, ...]:
    """The shapes in parsed JSON, a list of {"kind", "x", "y", "size"}; ShapeError for anything else."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) > MOST_SHAPES:
        raise ShapeError(f"These are no shapes: a list of at most {MOST_SHAPES} is expected.")
    return tuple(_shape(value) for value in values)


def draw_shapes(shapes: Sequence[Shape], width: int, height: int) -> Image.Image:
    """The depth map of shapes on a floor before a wall."""
    y, x = np.mgrid[0.5:height, 0.5:width].astype(np.float32)
    nearness = near_at(y / height)
    for shape in shapes:
        half, tall = SHAPES[shape.kind]
        near = float(near_at(np.float32(shape.y)))
        size = shape.size * near * min(width, height)
        across = (x - shape.x * width) / (half * size)
        up = (shape.y * height - y) / (tall * size)  # 0 at its foot, 1 at its top
        inside = (np.abs(across) <= 1) & (up >= 0) & (up <= 1)
        from_axis = across**2 + (2 * up - 1) ** 2 if shape.kind == "ball" else across**2
        bulge = np.sqrt(np.clip(1 - from_axis, 0, 1)) if shape.kind != "box" else np.ones_like(across)
        inside &= from_axis <= 1
        surface = 1 / np.maximum(1 / near - shape.size * half * bulge, 0.2)
        nearness = np.where(inside, np.maximum(nearness, surface), nearness)
    return stretched(nearness)


def near_at(y: np.ndarray) -> np.ndarray:
    """Nearness of the floor, or above the horizon of the wall, at heights in 0..1 of the picture."""
    return FAR + (1 - FAR) * np.clip((y - HORIZON) / (1 - HORIZON), 0, 1)


def _shape(value: Any) -> Shape:
    try:
        shape = Shape(str(value["kind"]), *(float(value[name]) for name in ("x", "y", "size")))
    except (KeyError, TypeError, ValueError) as error:
        raise ShapeError("A shape needs a kind, and x, y and size as numbers.") from error
    if shape.kind not in SHAPES:
        raise ShapeError(f"A shape is one of {', '.join(SHAPES)}.")
    if not (0 <= shape.x <= 1 and HORIZON <= shape.y <= 1 and SMALLEST <= shape.size <= LARGEST):
        raise ShapeError(
            f"A shape stands at x from 0 to 1 and y from {HORIZON} to 1, and its size is from {SMALLEST} to "
            f"{LARGEST}."
        )
    return shape
