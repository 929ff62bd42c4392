"""Whatever picture a person gives becomes the control map here: recognised, used as it is, or refused.

What a picture is, is told from simple counts: a skeleton is thin bright hues on black, edges are thin white
lines on black, a depth map is smooth and grey. All else is a photograph, and needs a detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from modules.conditions import detectors
from modules.images import open_picture
from modules.tasks import Controlled, TaskError

SPOKEN = {
    "pose": "a drawn skeleton",
    "depth": "a depth map",
    "canny": "a drawing of edges",
    "photo": "a photograph",
    "empty": "one even colour",
}
DRAWN = {"lineart", "softedge", "mlsd", "scribble"}
"""Kinds whose maps are drawings of lines, as edges are."""

WITHOUT_DETECTOR = {
    "pose": "Draw the pose in the pose editor, or give a picture of its skeleton",
    "depth": "Give a depth map (grey, near is white)",
}
GLANCE = 192  # pixels of the long side at which a picture is looked at
DARK, LIT = 32, 72  # of 255: JPEG blurs a black ground up to the one, antialiasing lines down to the other


@dataclass(frozen=True)
class ControlMap:
    """A map as its network sees it, and a sentence on how it came to be."""

    picture: Image.Image
    told: str


def maps_of(task: Controlled) -> dict[str, ControlMap]:
    """The maps that a task asks for, at the size of its picture, by the ending of their fields' names.

    TaskError or PictureError, in words, for one that is missing or makes no sense.
    """
    found = {"": map_of(task)}
    return found | {"_2": map_of(task, "_2")} if task.control_type_2 else found


def map_of(task: Controlled, which: str = "") -> ControlMap:
    """One of a task's maps; `which` ends its fields' names. TaskError or PictureError as `maps_of`."""
    given = getattr(task, f"control_image{which}")
    if given is None:
        raise TaskError(
            f"control_image{which}",
            f"control_image{which} is missing: give a map, or a picture to read it from.",
        )
    kind = getattr(task, f"control_type{which}")
    try:
        return control_map(open_picture(given), kind, task.detect, task.width, task.height)
    except TaskError as refusal:
        raise TaskError(f"control_image{which}", str(refusal)) from refusal


def control_map(picture: Image.Image, kind: str, detect: str, width: int, height: int) -> ControlMap:
    """The map of that kind and size in a picture; what does not fit the size is cropped around its middle.

    `detect` as in Controlled. TaskError where the picture is another kind of map, or no map and there is no
    detector for it.
    """
    fitted = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    if detect == "never":
        return ControlMap(fitted, "The picture is the map, as it is.")
    found = recognise(picture)
    if detect == "auto":
        if found == kind or (found == "canny" and kind in DRAWN):
            return ControlMap(fitted, f"The picture is {SPOKEN[found]}: it is the map, as it is.")
        if found != "photo":
            raise TaskError(
                "control_image",
                f"The picture is {SPOKEN[found]}, which is no {kind} map. Choose the control type that it is "
                "meant for, or set detect to never to use it as it is.",
            )
    return _read(fitted, kind, "The picture looks like a photograph. " if detect == "auto" else "")


def _read(fitted: Image.Image, kind: str, what: str) -> ControlMap:
    """The map that the best detector here sees; TaskError says what it would take to have one."""
    if not (name := detectors.reader(kind)):
        way = WITHOUT_DETECTOR.get(kind, f"Give a {kind} map")
        raise TaskError(
            "control_image",
            f"{what}No detector is installed that could read a {kind} map from it. {way}, or set detect to "
            f"never to use the picture as it is. {detectors.wanting(kind)}".strip(),
        )
    try:
        return ControlMap(
            detectors.read(name, fitted), f"The {kind} map was read from the picture, by {name}."
        )
    except detectors.DetectorError as error:
        raise TaskError("control_image", str(error)) from error


def recognise(picture: Image.Image) -> str:
    """What a picture is: "pose", "depth", "canny", "photo", or "empty" where it shows nothing at all."""
    seen = picture.convert("RGB")
    seen.thumbnail((GLANCE, GLANCE), Image.Resampling.BOX)
    pixels = np.asarray(seen, np.int16)
    bright, spread = pixels.max(2), np.ptp(pixels, axis=2)
    if np.ptp(pixels, axis=(0, 1)).max() < 12:
        return "empty"
    lit, colourful = bright > LIT, 2 * spread > bright
    if (bright < DARK).mean() > 0.6 and _thin(lit):
        if (colourful & lit).sum() > 0.8 * lit.sum() and _hues(pixels[lit & colourful]) >= 3:
            return "pose"
        if (spread < 24)[lit].mean() > 0.95:
            return "canny"
    if (spread <= 12).mean() > 0.99 and _smooth(bright):
        return "depth"
    return "photo"


def _thin(lit: np.ndarray) -> bool:
    """Whether what is lit is lines: hardly any of it lies deep inside."""
    reach = max(3, round(0.035 * min(lit.shape)))
    inside = lit.copy()
    for axis in (0, 1):
        for step in (-reach, reach):
            inside &= np.roll(lit, step, axis)
    return lit.sum() > 0 and inside.sum() < 0.1 * lit.sum()


def _hues(pixels: np.ndarray) -> int:
    """How many of twelve hues hold 2% or more of (N, 3) colourful pixels."""
    hue = np.asarray(Image.fromarray(pixels[None].astype(np.uint8)).convert("HSV"))[0, :, 0]
    shares = np.bincount(hue.astype(int) * 12 // 256, minlength=12) / len(pixels)
    return int((shares >= 0.02).sum())


def _smooth(grey: np.ndarray) -> bool:
    """Whether almost every pixel is as its neighbours promise; edges of things may jump, texture may not."""
    bends = np.abs(2 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1])
    bends = np.maximum(bends, np.abs(2 * grey[1:-1, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]))
    return bool(np.ptp(grey) >= 32 and (bends > 8).mean() < 0.18)  # of photographs in grey, 0.2 to 0.7
