"""People as OpenPose-18 keypoints live here: read from JSON, written to it, and drawn as skeletons.

A person is eighteen points in the order of KEYPOINTS, each (x, y) in 0..1 of the picture with y down, or None
where it is not seen. Right is the person's own right.
"""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

import modules
from modules.data import read_yaml

PRESETS = modules.HOME / "presets" / "poses.yaml"

KEYPOINTS = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow"),
    *("left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
# The two ends of every limb, in the order in which OpenPose draws and colours them.
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
# Eighteen hues, 20 degrees apart; OpenPose cuts their channels down to whole numbers.
COLOURS = tuple(
    tuple(int(255 * channel + 1e-6) for channel in colorsys.hsv_to_rgb(i / 18, 1, 1)) for i in range(18)
)
LIMB_SHADE = 0.6  # limbs are darker than joints
STROKE = 4 / 512  # half the width of a limb, and the radius of a joint, over the picture's shorter side
FINE = 4  # drawn so many times larger, then averaged down
BODY_25 = (*range(8), *range(9, 19))  # where OpenPose's later 25 points hold these eighteen
MOST_PEOPLE = 20

Point = tuple[float, float]
Person = tuple[Point | None, ...]


class PoseError(ValueError):
    """A pose that cannot be read; the message is a sentence for whoever sent it."""


def named_poses() -> dict[str, Person]:
    """The library of single people, by name."""
    library = read_yaml(PRESETS)
    return {name: tuple((x, y) for x, y in points) for name, points in library["poses"].items()}


def from_json(source: str) -> tuple[Person, ...]:
    """The people in a JSON text, ours or OpenPose's; PoseError, in words, for anything else."""
    try:
        values = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise PoseError(f"This is not a pose: it is not JSON ({error}).") from error
    return people_of(values)


def people_of(values: Any) -> tuple[Person, ...]:
    """The people in parsed JSON: {"people": [...]}, a list of that, or the bare list of people.

    A person is a list of [x, y] or null, or OpenPose's {"pose_keypoints_2d": [x, y, confidence, ...]} of 18
    or 25 points, where confidence 0 means not seen. Pixels need "canvas_width" and "canvas_height" beside
    them.
    """
    if isinstance(values, Sequence) and len(values) == 1 and _is_picture(values[0]):
        values = values[0]
    canvas = (1.0, 1.0)
    if _is_picture(values):
        canvas = (_side(values, "canvas_width"), _side(values, "canvas_height"))
        values = values["people"]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise PoseError('This is not a pose: a JSON object with a list "people" is expected.')
    if len(values) > MOST_PEOPLE:
        raise PoseError(f"The pose has {len(values)} people; at most {MOST_PEOPLE} can be drawn.")
    people = tuple(_person(value) for value in values)
    spots = [number for person in people for point in person if point for number in point]
    if max(spots, default=0) > 2 or canvas == (1, 1):  # some tools name a canvas and still write 0..1
        people = tuple(_scaled(person, canvas) for person in people)
    return people


def to_json(people: Sequence[Person], width: int, height: int) -> str:
    """The people as OpenPose writes them: pixels of a canvas, confidence 1 for seen and 0 for not."""
    written = []
    for person in people:
        triples = [
            (round(point[0] * width, 2), round(point[1] * height, 2), 1) if point else (0, 0, 0)
            for point in person
        ]
        written.append({"pose_keypoints_2d": [number for triple in triples for number in triple]})
    return json.dumps({"people": written, "canvas_width": width, "canvas_height": height})


def draw(people: Sequence[Person], width: int, height: int) -> Image.Image:
    """The skeletons on black as ControlNets were trained on: limbs as thin ellipses, joints as discs."""
    canvas = Image.new("RGB", (width * FINE, height * FINE))
    brush = ImageDraw.Draw(canvas)
    radius = STROKE * min(canvas.size)
    for person in people:
        points = [point and (point[0] * canvas.width, point[1] * canvas.height) for point in person]
        for i, (one, other) in enumerate(LIMBS):
            if points[one] and points[other]:
                dark = tuple(int(LIMB_SHADE * channel) for channel in COLOURS[i])
                brush.polygon(_ellipse(points[one], points[other], radius), fill=dark)
        for colour, point in zip(COLOURS, points, strict=True):
            if point:
                brush.circle(point, radius, fill=colour)
    return canvas.reduce(FINE)


def _ellipse(one: Point, other: Point, half_width: float) -> list[Point]:
    """The outline of the ellipse whose long axis runs from one point to the other."""
    (x, y), (dx, dy) = ((one[i] + other[i]) / 2 for i in (0, 1)), (other[i] - one[i] for i in (0, 1))
    half_length, angle = math.hypot(dx, dy) / 2, math.atan2(dy, dx)
    outline = []
    for k in range(48):
        along = half_length * math.cos(2 * math.pi * k / 48)
        across = half_width * math.sin(2 * math.pi * k / 48)
        outline.append(
            (
                x + along * math.cos(angle) - across * math.sin(angle),
                y + along * math.sin(angle) + across * math.cos(angle),
            )
        )
    return outline


def _is_picture(values: Any) -> bool:
    return isinstance(values, Mapping) and isinstance(values.get("people"), Sequence)


def _side(values: Mapping[str, Any], name: str) -> float:
    side = values.get(name, 1)
    if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side <= 100_000:
        raise PoseError(f"{name} is {str(side)[:40]}; it must be the picture's size in pixels.")
    return float(side)


def _person(value: Any) -> Person:
    points = _openpose(value) if isinstance(value, Mapping) else value
    if not isinstance(points, Sequence) or isinstance(points, str) or len(points) != len(KEYPOINTS):
        raise PoseError(f"A person needs {len(KEYPOINTS)} keypoints in OpenPose's order.")
    return tuple(None if point is None else _point(point) for point in points)


def _openpose(value: Mapping[str, Any]) -> list[Any]:
    flat = value.get("pose_keypoints_2d")
    if not isinstance(flat, Sequence) or len(flat) not in (3 * 18, 3 * 25):
        raise PoseError('"pose_keypoints_2d" must hold 18 or 25 keypoints of three numbers each.')
    triples = [flat[i : i + 3] for i in range(0, len(flat), 3)]
    if len(triples) == 25:
        triples = [triples[i] for i in BODY_25]
    return [triple[:2] if triple[2] else None for triple in triples]


def _point(value: Any) -> Point:
    numbers = isinstance(value, Sequence) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    )
    if not numbers or len(value) not in (2, 3):
        raise PoseError(f"A keypoint is {str(value)[:40]}; it must be [x, y] or null.")
    return value[0], value[1]


def _scaled(person: Person, canvas: Point) -> Person:
    scaled = tuple(point and (point[0] / canvas[0], point[1] / canvas[1]) for point in person)
    for point in filter(None, scaled):
        if not all(-1 <= share <= 2 for share in point):  # NaN fails too
            raise PoseError(
                "A keypoint lies far outside the picture. Pixels need canvas_width and canvas_height beside "
                "them; without these, x and y go from 0 to 1."
            )
    return scaled
