"""Where a picture may change: masks read, grown, feathered and filled under, as arrays of its own size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from modules.tasks import TaskError


def as_mask(mask: Image.Image | None, size: tuple[int, int]) -> np.ndarray:
    """A mask picture as (height, width) booleans, True where it is nearer to white; none given is all False.

    TaskError unless it has the picture's own `size` (width, height).
    """
    if mask is None:
        return np.zeros(size[::-1], bool)
    if mask.size != size:
        given, wanted = (f"{w} x {h}" for w, h in (mask.size, size))
        raise TaskError("mask", f"mask is {given} pixels; it must have the picture's size, {wanted}.")
    return np.asarray(mask.convert("L")) >= 128


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask and every pixel within `pixels` of it."""
    if not pixels or not mask.any():
        return mask
    return depth_in(~mask) <= pixels


def feathered(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Weights of the new picture, float32 from 0 to 1: the edge softens inwards, so outside stays exactly 0.

    Along the picture's border there is nothing to blend with, and so no softening.
    """
    if not pixels or mask.all():
        return mask.astype(np.float32)
    return np.clip(depth_in(mask) / (pixels + 1), 0, 1).astype(np.float32)


def depth_in(mask: np.ndarray) -> np.ndarray:
    """How far every pixel of the mask is from the nearest one outside, in pixels; 0 outside."""
    from scipy import ndimage  # only who edits waits for it

    return ndimage.distance_transform_edt(mask)


def filled(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with its masked part replaced by its surroundings, blurred the more the farther they are.

    `picture`: (height, width, 3) uint8. All masked becomes middle grey. Pull-push over a pyramid of halves
    (Gortler et al. 1996, The Lumigraph, section 3.4).
    """
    if mask.all():
        return np.full_like(picture, 128)
    return _pulled(picture.astype(np.float32), (~mask).astype(np.float32)).round().astype(np.uint8)


def blended(old: np.ndarray, new: np.ndarray, weights: np.ndarray, reach: float) -> np.ndarray:
    """The new picture laid over the old one by `weights`, its colours led over to the old ones at the edge.

    Pictures are (height, width, 3) uint8. What the two differ by just outside the mask is carried inwards as
    a smooth membrane, as Poisson editing does (Perez et al. 2003, eq. 4), here fading over `reach` pixels, so
    that a repainted thing keeps its own colours. Where a weight is 0 the old picture comes out, exactly.
    """
    mask = weights > 0
    if not mask.any() or mask.all():
        return np.where(mask[..., None], new, old)
    here, there = old.astype(np.float32), new.astype(np.float32)
    membrane = _pulled(np.where(mask[..., None], 0, here - there), (~mask).astype(np.float32))
    depth = depth_in(mask).astype(np.float32)
    led = np.clip(there + np.exp(-depth / reach)[..., None] * membrane, 0, 255)
    mixed = (here + weights[..., None] * (led - here)).round().astype(np.uint8)
    return np.where(mask[..., None], mixed, old)


def _pulled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values (height, width, 3) with those of weight 0 taken from the same picture at half the size."""
    if known.all():
        return values
    height, width = known.shape
    odd = (0, height % 2), (0, width % 2)
    weights = np.pad(known, odd)
    sums = np.pad(values * known[..., None], (*odd, (0, 0)))
    mass = _halved(weights)
    coarse = _pulled(_halved(sums) / np.maximum(mass, 1)[..., None], (mass > 0).astype(np.float32))
    size = weights.shape[::-1]
    channels = [Image.fromarray(coarse[..., c]).resize(size, Image.Resampling.BILINEAR) for c in range(3)]
    finer = np.stack([np.asarray(channel) for channel in channels], -1)[:height, :width]
    return np.where(known[..., None] > 0, values, finer)


def _halved(values: np.ndarray) -> np.ndarray:
    """The sum of every block of two by two."""
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def box_around(mask: np.ndarray, padding: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the mask with `padding`, grown towards width:height `shape`.

    It never leaves the picture, so where the picture ends the shape is not reached.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom = max(0, rows[0] - padding), min(height, rows[-1] + 1 + padding)
    left, right = max(0, columns[0] - padding), min(width, columns[-1] + 1 + padding)
    wide = max(right - left, round((bottom - top) * shape[0] / shape[1]))
    high = max(bottom - top, round((right - left) * shape[1] / shape[0]))
    left, right = _stretched(int(left), int(right), wide, width)
    top, bottom = _stretched(int(top), int(bottom), high, height)
    return left, top, right, bottom


def _stretched(low: int, high: int, length: int, most: int) -> tuple[int, int]:
    """The interval lengthened about its middle, moved back inside 0..most where it would leave."""
    length = min(length, most)
    low = min(max(0, low - (length - (high - low)) // 2), most - length)
    return low, low + length
