"""People are found in photographs here, by BlazePose: one network finds them, another finds their joints.

Bazarevsky et al. 2020, arXiv:2006.10204; the files are MediaPipe's, Apache-2.0, and run in ai-edge-litert.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import expit

import modules
from modules.conditions.pose import KEYPOINTS, MOST_PEOPLE, Person

FOLDER = modules.HOME / "assets" / "blazepose"
LOOK, CROP = 224, 256  # pixels: the sides that the finder of people and the finder of joints look at
STRIDES = ((8, 2), (16, 2), (32, 6))  # of the finder's grids, and anchors at each of their points
CERTAIN, SEEN = 0.5, 0.5  # that there is a person; that a joint of theirs is not hidden
OVERLAP = 0.3  # of two boxes over their union, above which they hold one person
MARGIN = 1.25
# BlazePose's number of each keypoint of ours; the neck, which it lacks, is between the shoulders.
NUMBERS = {
    **{"nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8, "left_shoulder": 11},
    **{"right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16},
    **{"left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27},
    **{"right_ankle": 28},
}


@dataclass(frozen=True)
class Frame:
    """A turned square around one person, in pixels of the picture: its centre, its side, its turn."""

    x: float
    y: float
    side: float
    turn: float

    def at(self, u: Any, v: Any) -> tuple[Any, Any]:
        """Where (u, v), from -0.5 to 0.5 across the square, lies in the picture."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.x + self.side * (cos * u - sin * v), self.y + self.side * (sin * u + cos * v)

    def cut(self, picture: Image.Image) -> Image.Image:
        """What the square holds, upright; black outside the picture."""
        cos, sin = (self.side / CROP * part for part in (math.cos(self.turn), math.sin(self.turn)))
        left, top = self.at(-0.5, -0.5)
        how = (cos, -sin, left, sin, cos, top)
        return picture.transform((CROP, CROP), Image.Transform.AFFINE, how, Image.Resampling.BILINEAR)


def people_in(picture: Image.Image) -> tuple[Person, ...]:
    """The people in a picture, the surest first, at most twenty.

    ImportError, with a sentence, without ai-edge-litert.
    """
    picture = picture.convert("RGB")
    found = [_joints(picture, frame) for frame in _frames(picture)[:MOST_PEOPLE]]
    return tuple(person for person in found if person is not None)


def _frames(picture: Image.Image) -> list[Frame]:
    """A square around each person, the surest first."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side))
    square.paste(picture)
    small = np.asarray(square.resize((LOOK, LOOK), Image.Resampling.BILINEAR), np.float32)
    boxes, scores = _asked("pose_detection", small[None] / 127.5 - 1)
    certain = expit(scores[0, :, 0])
    spots = boxes[0].reshape(-1, 6, 2) / LOOK
    spots[:, [0, 2, 3, 4, 5]] += _anchors()[:, None]  # the second pair is the box's size, not a place
    kept: list[int] = []
    for i in np.argsort(-certain):
        if certain[i] < CERTAIN:
            break
        if all(_overlap(spots[i], spots[other]) < OVERLAP for other in kept):
            kept.append(int(i))
    return [_frame(*spots[i, 2:4] * side) for i in kept]


def _frame(hips: np.ndarray, reach: np.ndarray) -> Frame:
    """The square around a person, from between the hips and a point as far from there as the body reaches."""
    across, down = reach - hips
    turn = math.pi / 2 - math.atan2(-down, across)
    return Frame(float(hips[0]), float(hips[1]), 2 * MARGIN * math.hypot(across, down), turn)


def _joints(picture: Image.Image, frame: Frame) -> Person | None:
    """The person in a square; None if there is none after all."""
    said = _asked("pose_landmark_lite", np.asarray(frame.cut(picture), np.float32)[None] / 255)
    if said[1].item() < CERTAIN:
        return None
    points = said[0].reshape(-1, 5)
    x, y = frame.at(*(points[:, :2].T / CROP - 0.5))
    places = np.stack([x / picture.width, y / picture.height], 1)
    there = (expit(points[:, 3]) > SEEN) & ((places >= 0) & (places <= 1)).all(1)
    seen = {name: tuple(map(float, places[i])) for name, i in NUMBERS.items() if there[i]}
    shoulders = [seen[name] for name in ("left_shoulder", "right_shoulder") if name in seen]
    if len(shoulders) == 2:
        seen["neck"] = tuple(sum(pair) / 2 for pair in zip(*shoulders, strict=True))
    return tuple(seen.get(name) for name in KEYPOINTS)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The intersection of two boxes, (centre, size, ...), over their union."""
    low = np.maximum(one[0] - one[1] / 2, other[0] - other[1] / 2)
    high = np.minimum(one[0] + one[1] / 2, other[0] + other[1] / 2)
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / max(np.prod(one[1]) + np.prod(other[1]) - shared, 1e-9))


@functools.cache
def _anchors() -> np.ndarray:
    """The points on the finder's grids from which it measures, (2254, 2) in 0..1."""
    grids = []
    for stride, count in STRIDES:
        y, x = np.mgrid[0.5 : LOOK // stride, 0.5 : LOOK // stride] / (LOOK // stride)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _asked(name: str, picture: np.ndarray) -> list[np.ndarray]:
    """Everything that one of the networks answers."""
    network = _network(name)
    network.set_tensor(network.get_input_details()[0]["index"], picture.astype(np.float32))
    network.invoke()
    return [network.get_tensor(one["index"]).copy() for one in network.get_output_details()]


def _network(name: str) -> Any:
    """A network of its own for every call: they are quick to make, and hold state while they run."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("Reading poses from photographs needs ai-edge-litert: pip install it.") from error
    network = Interpreter(model_content=(FOLDER / f"{name}.tflite").read_bytes())
    network.allocate_tensors()
    return network
