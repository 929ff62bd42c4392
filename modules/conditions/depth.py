"""Distances become a depth map here: eight bits, near is white, as ControlNets were trained on."""

from __future__ import annotations

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
