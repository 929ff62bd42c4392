"""Edges are found here, by Canny's method: no weights, so any photograph gives a map."""

from __future__ import annotations

import numpy as np
from PIL import Image

BLUR = 1.0  # pixels
WEAK, STRONG = 60, 130  # of the Sobel gradient, whose answer to a step of one grey level is about 2


def edges(picture: Image.Image) -> Image.Image:
    """Thin white lines on black where brightness changes most steeply (Canny 1986)."""
    from scipy import ndimage  # only who wants edges waits for it

    grey = ndimage.gaussian_filter(np.asarray(picture.convert("L"), np.float32), BLUR)
    down, right = ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)
    steep = np.hypot(down, right)
    ridge = steep * (steep >= np.maximum(*_beside(steep, down, right)))
    chains, _ = ndimage.label(ridge > WEAK, np.ones((3, 3)))
    kept = np.zeros(chains.max() + 1, bool)
    kept[np.unique(chains[ridge > STRONG])] = True
    kept[0] = False
    return Image.fromarray(kept[chains].astype(np.uint8) * 255).convert("RGB")


def _beside(steep: np.ndarray, down: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """The steepness of each pixel's two neighbours across the edge, in the nearest of eight directions."""
    turn = np.round(np.arctan2(down, right) / (np.pi / 4))
    dy, dx = (np.round(part).astype(int) for part in (np.sin(turn * np.pi / 4), np.cos(turn * np.pi / 4)))
    wide = np.pad(steep, 1)
    rows, columns = np.indices(steep.shape) + 1
    return [wide[rows + way * dy, columns + way * dx] for way in (1, -1)]
