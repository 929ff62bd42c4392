"""A picture that is edited lies on a canvas of the model's size here, and comes back at its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from modules.conditions import masks
from modules.images import open_mask, open_picture
from modules.tasks import ImageToImage, Inpaint, InstructEdit, TaskError

GRID = 64  # pixels: every U-Net here halves its latents evenly at multiples of this
EDGE = 8.0  # pixels of the canvas over which the new picture's colours are led over to the old one's
SMALLEST, SLIMMEST = 16, 8  # pixels a side, and times as long as wide

Box = tuple[int, int, int, int]
Edit = ImageToImage | Inpaint | InstructEdit
"""The kinds of tasks that are given a picture to change."""


@dataclass(frozen=True)
class Canvas:
    """A picture, the part of it that the model sees, and what of that it may change.

    `picture`: (height, width, 3) uint8, extended already. `weights`: (height, width) float32, how much of
    the new picture each pixel takes; None where the new picture simply takes the old one's place. `box`:
    left, top, right, bottom of what is seen. `size`: width and height of the canvas, multiples of 64; the
    seen part is scaled to fit and its edges are drawn out to fill what is left. `blurred`: whether the walk
    starts from the surroundings instead of what the mask covers.
    """

    picture: np.ndarray
    weights: np.ndarray | None
    box: Box
    size: tuple[int, int]
    blurred: bool = False

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of the seen part on the canvas."""
        left, top, right, bottom = self.box
        scale = min(self.size[0] / (right - left), self.size[1] / (bottom - top))
        return max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))

    def laid(self) -> Image.Image:
        """What the model starts from, at the canvas's size."""
        seen = Image.fromarray(self._seen(self.picture))
        scaled = np.asarray(seen.resize(self.inner, Image.Resampling.LANCZOS))
        whole = np.pad(scaled, (*self._margins(), (0, 0)), mode="edge")
        return Image.fromarray(masks.filled(whole, self.mask()) if self.blurred else whole)

    def latent_mask(self, factor: int) -> np.ndarray:
        """1 for every latent that covers a pixel to be changed, else 0: (1, 1, height, width) / factor."""
        whole = self.mask()
        rows, columns = whole.shape[0] // factor, whole.shape[1] // factor
        blocks = whole.reshape(rows, factor, columns, factor).any((1, 3))
        return blocks.astype(np.float32)[None, None]

    def finished(self, painted: Image.Image) -> Image.Image:
        """The painted canvas as the picture that a person gets; unmasked pixels are the old ones, exactly."""
        (up, _), (before, _) = self._margins()
        wide, high = self.inner
        seen = painted.crop((before, up, before + wide, up + high))
        if self.weights is None:
            return seen
        left, top, right, bottom = self.box
        new = np.asarray(seen.resize((right - left, bottom - top), Image.Resampling.LANCZOS))
        reach = EDGE * (right - left) / wide
        whole = self.picture.copy()
        whole[top:bottom, left:right] = masks.blended(
            self._seen(self.picture), new, self._seen(self.weights), reach
        )
        return Image.fromarray(whole)

    def _seen(self, whole: np.ndarray) -> np.ndarray:
        left, top, right, bottom = self.box
        return whole[top:bottom, left:right]

    def mask(self) -> np.ndarray:
        """Which pixels of the canvas show anything that may change: (height, width) booleans."""
        if self.weights is None:
            return np.ones(self.size[::-1], bool)
        seen = Image.fromarray((self._seen(self.weights) > 0).astype(np.uint8) * 255)
        scaled = np.asarray(seen.resize(self.inner, Image.Resampling.BOX)) > 0
        return np.pad(scaled, self._margins(), mode="edge")

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        wide, high = self.inner
        across, down = self.size[0] - wide, self.size[1] - high
        return (down // 2, down - down // 2), (across // 2, across - across // 2)


def prepare(task: Edit) -> Canvas:
    """The canvas of a task; TaskError or PictureError as `opened`."""
    picture, mask = opened(task)
    box = (0, 0, picture.shape[1], picture.shape[0])
    if not isinstance(task, Inpaint):
        return Canvas(picture, None, box, _size_for(task, box))
    mask = masks.grown(mask, task.mask_grow)
    if task.only_masked:
        box = masks.box_around(mask, task.padding, (task.width, task.height))
    weights = masks.feathered(mask, task.mask_feather)
    return Canvas(picture, weights, box, _size_for(task, box), blurred=task.start_from == "blurred")


def opened(task: Edit) -> tuple[np.ndarray, np.ndarray]:
    """The picture, (height, width, 3) uint8, and where it may change, booleans, both extended already.

    TaskError or PictureError, in words, where one is missing, damaged or makes no sense.
    """
    if task.image is None:
        raise TaskError("image", "image is missing: choose the picture to start from.")
    picture = np.asarray(open_picture(task.image))
    height, width = picture.shape[:2]
    if min(width, height) < SMALLEST or max(width, height) > SLIMMEST * min(width, height):
        raise TaskError(
            "image",
            f"image is {width} x {height} pixels; each side must have at least {SMALLEST}, "
            f"and the longer at most {SLIMMEST} times the shorter.",
        )
    if not isinstance(task, Inpaint):
        return picture, np.ones((height, width), bool)
    given = None if task.mask is None else open_mask(task.mask)
    edges = (task.extend_up, task.extend_down), (task.extend_left, task.extend_right)
    mask = np.pad(masks.as_mask(given, (width, height)), edges, constant_values=True)
    if not mask.any():
        raise TaskError("mask", "mask is empty: paint over what should change, or extend the picture.")
    return np.pad(picture, (*edges, (0, 0)), mode="edge"), mask


def _size_for(task: Edit, box: Box) -> tuple[int, int]:
    left, top, right, bottom = box
    return working_size(right - left, bottom - top, task.width * task.height)


def working_size(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Multiples of 64 with a picture's shape as nearly as may be, of about `pixels` in all."""
    scale = math.sqrt(pixels / (width * height))
    across, down = (max(GRID, round(side * scale / GRID) * GRID) for side in (width, height))
    return across, down
