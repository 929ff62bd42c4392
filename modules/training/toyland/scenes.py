"""The staged scenes live here: a seed becomes a picture of a mannequin, of simple objects or of both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from . import poses, scene_words
from .props import CLAYS, COLOURS, HAIRS, PROPS, RADII, SKINS, mannequin
from .raycast import Camera, Picture, Stage, cast, render
from .shapes import UP, Body, RoundCone, Solid, unit

BACKDROPS = {
    "white": (246, 246, 248), "light grey": (214, 217, 224), "cream": (252, 240, 214),
    "peach": (255, 214, 188), "pale pink": (255, 208, 220), "lavender": (216, 206, 246),
    "pale blue": (202, 226, 250), "sky blue": (134, 200, 248), "mint": (196, 240, 220),
    "pale yellow": (255, 240, 172), "coral": (250, 138, 118), "teal": (54, 168, 168), "blue": (88, 136, 238),
    "purple": (152, 112, 222), "green": (128, 200, 122), "yellow": (255, 212, 84), "orange": (254, 166, 84),
    "dark blue": (44, 56, 104), "dark grey": (72, 76, 88),
}
GRADIENTS = (
    ("peach", "pale pink"), ("pale pink", "lavender"), ("pale blue", "lavender"), ("mint", "sky blue"),
    ("pale yellow", "coral"), ("sky blue", "blue"), ("lavender", "purple"), ("cream", "orange"),
    ("purple", "dark blue"), ("orange", "purple"), ("teal", "dark blue"), ("white", "pale blue"),
)
KINDS = {"objects": 0.3, "figure": 0.35, "both": 0.35}
COUNTS = {"objects": ((1, 2, 3, 4), (0.25, 0.35, 0.25, 0.15)), "figure": ((0,), (1.0,)),
          "both": ((1, 2, 3), (0.5, 0.35, 0.15))}
FLESH = np.array([0.05, 0.16] + [0.12] * 6 + [0.2, 0.13, 0.12] * 2 + [0.05, 0.05, 0.08, 0.08])  # over a joint


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One staged picture and its ground truth.

    image: uint8 (H, W, 3). depth: float32 (H, W), distance from the camera, world units. mask: uint8 (H, W),
    0 on floor and wall, k on facts["things"][k - 1]. keypoints: float32 (18, 3), OpenPose order, x and y in
    pixels and 1 where visible, or None without a figure. captions: long, medium, short. facts: JSON-able.
    """

    image: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray | None
    captions: list[str]
    facts: dict


def scene(seed: int, *, size: int = 256, kind: str | None = None, pose: str | None = None) -> Scene:
    """The scene of a seed, always the same for the same arguments.

    `kind` is a key of KINDS and `pose` one of POSES or "free"; either is drawn when None.
    """
    rng = np.random.default_rng(seed)
    drawn = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    for _ in range(20):
        staged = _arrange(rng, kind or drawn, pose)
        stage, camera = _shoot(rng, staged, size)
        if _all_seen(stage, camera, len(staged.things)):
            break
    picture = render(stage, camera)
    facts = {"seed": int(seed)} | _facts(staged, stage, camera, picture)
    return Scene(image=picture.image, depth=picture.depth, mask=picture.mask, facts=facts,
                 keypoints=_keypoints(staged.joints, camera, picture) if staged.joints else None,
                 captions=scene_words.captions(facts, rng))


def is_held_out(facts: dict) -> bool:
    """Whether a scene's pair of named pose and background is among the 5% never trained on."""
    if facts["pose"] in (None, "free"):
        return False
    pair = f"{facts['pose']}/{facts['background']}"
    return int.from_bytes(hashlib.sha256(pair.encode()).digest()[:4], "big") % 20 == 0


# ---------------------------------------------------------------- what stands where


@dataclass
class _Thing:
    name: str
    colour: str | None = None
    size: str = ""
    radius: float = 0.0
    where: np.ndarray = field(default_factory=lambda: np.zeros(3))
    upon: int | None = None  # the thing it stands on

    @property
    def foot(self) -> float:
        return self.radius * PROPS[self.name].foot if self.name in PROPS else self.radius


@dataclass
class _Staged:
    backdrop: tuple[str, str, str, str]  # floor, wall, top, style
    things: list[_Thing] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    palette: list = field(default_factory=list)
    joints: dict | None = None
    pose: str | None = None
    person: dict = field(default_factory=dict)
    yaw: float = 0.0

    def ink(self, rgb) -> int:
        self.palette.append(rgb)
        return len(self.palette) - 1


def _arrange(rng, kind, pose) -> _Staged:
    staged = _Staged(_backdrop(rng))
    clear = [name for name, rgb in COLOURS.items()
             if min(_difference(rgb, BACKDROPS[ground]) for ground in staged.backdrop[:2]) > 70]
    if kind != "objects":
        _add_figure(rng, staged, clear, pose or str(rng.choice([*poses.POSES, "free"], p=_pose_shares())))
    counts, shares = COUNTS[kind]
    count = int(rng.choice(counts, p=shares))
    names = rng.permutation(list(PROPS))[:count] if rng.random() < 0.8 else rng.choice(list(PROPS), count)
    for name in names:
        _add_prop(rng, staged, str(name), str(rng.choice(clear)))
    return staged


def _backdrop(rng) -> tuple[str, str, str, str]:
    style = str(rng.choice(("plain", "gradient", "room"), p=(0.55, 0.2, 0.25)))
    if style == "gradient":
        low, high = GRADIENTS[rng.integers(len(GRADIENTS))]
        low, high = (high, low) if rng.random() < 0.3 else (low, high)
        return low, low, high, style
    wall = str(rng.choice(list(BACKDROPS)))
    if style == "plain":
        return wall, wall, wall, style
    apart = [name for name, rgb in BACKDROPS.items() if 45 < _difference(rgb, BACKDROPS[wall]) < 210]
    return str(rng.choice(apart)), wall, wall, style


def _difference(a, b) -> float:
    return float(np.linalg.norm((np.asarray(a, float) - b) * (1.0, 1.2, 0.8)))


def _pose_shares():
    shares = np.array([1.5 if name == "standing" else 1.0 for name in poses.POSES] + [4.0])
    return shares / shares.sum()


def _add_prop(rng, staged, name, colour):
    size = str(rng.choice(list(RADII), p=(0.25, 0.5, 0.25)))
    thing = _Thing(name, colour, size, RADII[size] * rng.uniform(0.92, 1.08))
    turn = _about_y(rng.uniform(-0.5, 0.5))
    taken = {other.upon for other in staged.things}
    bases = [i for i, base in enumerate(staged.things) if base.name in PROPS and PROPS[base.name].flat
             and base.upon is None and i not in taken and base.foot > 0.75 * thing.foot]
    if bases and rng.random() < 0.3:
        base = staged.things[bases[0]]
        thing.where, thing.upon = base.where + UP * PROPS[base.name].height * base.radius, bases[0]
    elif not _find_room(rng, staged, thing):
        return
    staged.things.append(thing)
    inks = [staged.ink(COLOURS[word]) for word in (colour, *PROPS[name].accents)]
    staged.bodies += [body.moved(turn, thing.where, colour=inks[body.colour], thing=len(staged.things))
                      for body in PROPS[name].build(thing.radius)]


def _find_room(rng, staged, thing) -> bool:
    """Puts a thing on free floor near what is there already; says whether there was room."""
    taken = [(t.where[0], t.where[2], t.foot) for t in staged.things if t.name != "figure"]
    if staged.joints:
        taken += [(x, z, body.ra + 0.02) for body in staged.bodies if isinstance(body, RoundCone)
                  and min(body.a[1], body.b[1]) < PROPS[thing.name].height * thing.radius + 0.4
                  for x, _, z in (body.a, (body.a + body.b) / 2, body.b)]
    reach = 0.95 if staged.joints else 0.25 + 0.32 * len(taken) ** 0.3
    for _ in range(40):
        x, z = (rng.normal(0, reach), rng.normal(0, 0.4)) if taken else (0.0, 0.0)
        gaps = [np.hypot(x - other_x, z - other_z) - foot - thing.foot for other_x, other_z, foot in taken]
        if not gaps or 0.06 < min(gaps) < 0.7:
            thing.where = np.array([x, 0.0, z])
            return True
    return False


def _add_figure(rng, staged, clear, name):
    pose = poses.drawn(rng, name)
    where = poses.joints(pose)
    yaw = rng.uniform(*pose.turn)
    if pose.sideways and abs(yaw) < 20:
        yaw = np.copysign(40 - abs(yaw), yaw)
    if pose.mirrors and name != "lying down" and rng.random() < 0.06:
        yaw += 180
    turn = _about_y(np.radians(yaw))
    inks, staged.person = _clothes(rng, staged, clear)
    bodies = mannequin(where, hair="hair" in staged.person)
    low = min((turn @ body.corners.T)[1].min() for body in bodies)
    rise = UP * (pose.lift - low)
    staged.bodies += [body.moved(turn, rise, colour=inks[body.colour], thing=1) for body in bodies]
    staged.joints = {key: turn @ spot + rise for key, spot in where.items()}
    staged.pose, staged.yaw = name, float(yaw)
    staged.things.append(_Thing("figure", where=staged.joints["pelvis"]))
    if pose.seat:
        _add_seat(rng, staged, turn, [word for word in clear if word not in staged.person.values()])


def _add_seat(rng, staged, turn, colours):
    half = np.array([rng.uniform(0.2, 0.28), (staged.joints["pelvis"][1] - 0.13) / 2, 0.19])
    middle = staged.joints["pelvis"] * (1, 0, 1) + turn @ (0, half[1], -0.03)
    colour = str(rng.choice(colours))
    box = _Thing("box", colour, "", float(np.hypot(half[0], half[2])), middle * (1, 0, 1))
    staged.things.append(box)
    staged.bodies.append(Solid("box", middle, turn.T, tuple(half), staged.ink(COLOURS[colour]), 2))


def _clothes(rng, staged, clear):
    """Palette indices of skin, shirt, trousers, shoes, face and hair; and their colours in words."""
    if rng.random() < 0.3:
        colour = str(rng.choice([word for word in clear if word in CLAYS]))
        ink = staged.ink(COLOURS[colour])
        return (ink, ink, ink, ink, staged.ink(COLOURS["black"]), ink), {"body": colour}
    walls = [BACKDROPS[name] for name in staged.backdrop[1:3]]
    skins = [rgb for rgb in SKINS if min(_difference(rgb, wall) for wall in walls) > 40]
    skin = skins[rng.integers(len(skins))]
    cloths = [word for word in clear if _difference(COLOURS[word], skin) > 75]
    shirt, trousers = (str(word) for word in rng.choice(cloths, 2, replace=False))
    shoes = str(rng.choice(("white", "black", "brown", "red")))
    hair = str(rng.choice(list(HAIRS), p=(0.25, 0.3, 0.15, 0.15, 0.08, 0.07)))
    worn = (skin, COLOURS[shirt], COLOURS[trousers], COLOURS[shoes], (52, 40, 40), HAIRS[hair])
    words = {"shirt": shirt, "trousers": trousers, "hair": hair}
    if rng.random() < 0.3:
        del words["hair"]
    return [staged.ink(rgb) for rgb in worn], words


def _about_y(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


# ---------------------------------------------------------------- camera and light


def _shoot(rng, staged, size) -> tuple[Stage, Camera]:
    floor, wall, top, style = staged.backdrop
    light = rng.uniform((0.35, 0.95, 0.45), (0.8, 1.4, 0.9)) * (rng.choice((-1, 1)), 1, 1)
    corners = np.concatenate([body.corners for body in staged.bodies])
    rise = np.radians(rng.uniform(6, 30))
    camera, ahead = _framed(rng, corners, rise, size)
    room = rng.uniform(1.3, 3.0) + np.ptp(corners[:, 2]) / 2
    stage = Stage(
        bodies=tuple(staged.bodies), palette=_linear(staged.palette), light=unit(light),
        gloss=rng.uniform(0.15, 0.4), cove=0.25 if style == "room" else 1.0, floor=_linear(BACKDROPS[floor]),
        wall=_linear(BACKDROPS[wall]), top=_linear(BACKDROPS[top]), wall_distance=ahead * np.cos(rise) + room)
    return stage, camera


def _framed(rng, corners, rise, size) -> tuple[Camera, float]:
    """A camera that looks down by `rise` and holds all the corners, and its distance from their middle."""
    side = np.radians(rng.uniform(-4, 4))
    back = np.array([np.sin(side) * np.cos(rise), np.sin(rise), np.cos(side) * np.cos(rise)])
    focal, fill = size * rng.uniform(1.5, 2.1), rng.uniform(0.72, 0.86)
    target, distance = (corners.min(0) + corners.max(0)) / 2, 6.0
    for _ in range(4):
        camera = Camera.looking(target + back * distance, target, focal, size)
        seen = camera.project(corners)[:, :2]
        x, y = (seen.min(0) + seen.max(0)) / 2 - size / 2
        target = target + (camera.axes[0] * x - camera.axes[1] * y) * distance / focal
        distance = max(distance * float(np.ptp(seen, axis=0).max()) / size / fill, 2.2)
    x, y = rng.normal((0, 0.02), 0.03) * distance * size / focal
    target = target + camera.axes[0] * x + camera.axes[1] * y
    return Camera.looking(target + back * distance, target, focal, size), distance


def _linear(rgb):
    return (np.asarray(rgb, np.float32) / 255) ** np.float32(2.2)


def _all_seen(stage, camera, count) -> bool:
    """Whether each of several things covers at least 0.6% of the picture, told from a coarse cast."""
    if count < 2:
        return True
    y, x = np.mgrid[0.5:64, 0.5:64].astype(np.float32) * (camera.size / 64)
    body = cast(stage, camera, x.ravel(), y.ravel())[1]
    things = np.array([0, 0] + [shape.thing for shape in stage.bodies])[body + 2]
    return bool((np.bincount(things, minlength=count + 1)[1:] >= 25).all())


# ---------------------------------------------------------------- what is true of the picture


def _keypoints(joints: dict, camera: Camera, picture: Picture) -> np.ndarray:
    spots = np.stack([joints[name] for name in poses.KEYPOINTS])
    result = camera.project(spots)
    column, row = np.floor(result[:, :2].T).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < camera.size) & (row < camera.size)
    front = picture.depth[np.clip(row, 0, camera.size - 1), np.clip(column, 0, camera.size - 1)]
    result[:, 2] = inside & (front > np.linalg.norm(spots - camera.eye, axis=1) - FLESH)
    return result.astype(np.float32)


def _facts(staged: _Staged, stage: Stage, camera: Camera, picture: Picture) -> dict:
    floor, wall, top, style = staged.backdrop
    things = []
    for index, thing in enumerate(staged.things):
        things.append({"name": thing.name, "colour": thing.colour, "size": thing.size,
                       "box": _box(picture.mask == index + 1),
                       "place": [round(float(v), 4) for v in thing.where]})
    kind = "objects" if staged.joints is None else "both" if len(things) > 1 else "figure"
    return {"kind": kind, "style": style, "floor": floor, "background": wall, "top": top, "pose": staged.pose,
            "person": staged.person, "turn": round((staged.yaw + 180) % 360 - 180, 2), "things": things,
            "relations": [[i, *_relation(staged.things, i)] for i in range(1, len(things))],
            "light": "left" if stage.light[0] < 0 else "right",
            "camera": {"eye": camera.eye.tolist(), "axes": camera.axes.tolist(), "focal": float(camera.focal),
                       "size": camera.size}}


def _box(mask) -> list[int] | None:
    """Left, top, right, bottom of a mask in pixels, right and bottom excluded."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)] if len(rows) else None


def _relation(things: list[_Thing], i: int) -> tuple[str, int]:
    """Where thing i is, in words that are plainly true, and of which thing that is said."""
    thing = things[i]
    if thing.name == "box":
        return "under", 0
    if thing.upon is not None:
        return "on top of", thing.upon
    right, _, near = thing.where - things[0].where
    if abs(right) > 0.3 and abs(right) > 0.8 * abs(near):
        return ("to the right of" if right > 0 else "to the left of"), 0
    if abs(near) > 0.3 and abs(near) > 1.3 * abs(right):
        return ("in front of" if near > 0 else "behind"), 0
    return "next to", 0
