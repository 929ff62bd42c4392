"""The ray caster lives here: bodies on a floor before a wall, lit like soft clay, with exact depth.

The floor is y = 0. A ray is cast through the centre of every pixel, so depth and ids are exact there; only
pixels on an edge are shaded a second time, with four rays each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shapes import SOFTNESS, UP, cross, smooth, unit

GAMMA = (np.arange(4096, dtype=np.float32) / 4095) ** np.float32(1 / 2.2)  # display value of linear light
SUN, SKY = np.array([(1.0, 0.965, 0.9), (0.56, 0.58, 0.63)], np.float32)
CREASE, HOLLOW = 0.09, 0.34  # the two reaches of contact darkening, in world units


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera; `axes` are the unit rows right, up, forward, `focal` is in pixels."""

    eye: np.ndarray
    axes: np.ndarray
    focal: float
    size: int

    @classmethod
    def looking(cls, eye, target, focal: float, size: int) -> Camera:
        """A camera at `eye` that looks at `target` with no roll."""
        forward = unit(np.asarray(target, float) - eye)
        right = unit(cross(forward, (0.0, 1.0, 0.0)))
        return cls(eye=np.asarray(eye, float), axes=np.stack([right, cross(right, forward), forward]),
                   focal=focal, size=size)

    def rays(self, x, y) -> np.ndarray:
        """Unit directions (N, 3) through the pixel coordinates x, y (pixel centres are at .5)."""
        half, focal = np.float32(self.size / 2), np.float32(self.focal)
        plane = np.stack([(x - half) / focal, (half - y) / focal, np.ones_like(x)], -1)
        return unit(plane.astype(np.float32) @ self.axes.astype(np.float32))

    def project(self, points) -> np.ndarray:
        """Pixel x, y and distance along the view axis of world points, (..., 3)."""
        seen = (np.asarray(points, float) - self.eye) @ self.axes.T
        right, up, ahead = seen[..., 0], seen[..., 1], seen[..., 2]
        scale = self.focal / np.maximum(ahead, 1e-3)
        return np.stack([self.size / 2 + right * scale, self.size / 2 - up * scale, ahead], -1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is in the picture and its light; colours are linear RGB, `light` points toward the key light."""

    bodies: tuple
    palette: np.ndarray  # (n, 3), indexed by a body's colour
    floor: np.ndarray
    wall: np.ndarray
    top: np.ndarray  # colour of the wall at the top of the picture
    wall_distance: float  # from the camera, along its level heading
    light: np.ndarray
    gloss: float = 0.25
    cove: float = 0.8  # how far before the wall the floor starts to turn into it

    def frame(self) -> np.ndarray:
        """Rows: two directions across the light, and the light's own."""
        across = unit(cross(self.light, (0.3, 0.1, 1.0)))
        return np.stack([across, cross(self.light, across), self.light])


def cast(stage: Stage, camera: Camera, x, y):
    """The nearest surface through pixels x, y (N,), which come row by row.

    Returns its distance, the index of its body (-1 floor, -2 wall), its normal and the ray.
    """
    rays = camera.rays(x, y)
    heading = camera.axes[2] * (1, 0, 1)
    heading /= np.linalg.norm(heading)
    with np.errstate(divide="ignore"):
        floor = np.where(rays[:, 1] < -1e-9, -np.float32(camera.eye[1]) / rays[:, 1], np.float32(np.inf))
        wall = np.float32(stage.wall_distance) / np.maximum(rays @ heading.astype(np.float32), 1e-6)
    t = np.minimum(floor, wall)
    body = np.where(floor < wall, -1, -2)
    normals = np.stack([-heading, UP]).astype(np.float32)[(floor < wall).astype(np.intp)]
    row = np.floor(y)
    for index, shape in enumerate(stage.bodies):
        spread = camera.project(shape.corners)
        (left, top), (right, low) = spread[:, :2].min(0) - 1, spread[:, :2].max(0) + 1
        first, last = np.searchsorted(row, (np.floor(top), np.floor(low) + 1))
        here = first + np.flatnonzero((x[first:last] > left) & (x[first:last] < right))
        if not len(here):
            continue
        near, facing = shape.hit(camera.eye, rays[here].astype(float))
        wins = near < t[here]
        here = here[wins]
        t[here], body[here], normals[here] = near[wins], index, facing[wins]
    return t, body, normals, rays


def _within(columns, low, high):
    """Indices of the points, given as coordinate columns, that lie inside a box."""
    inside = columns[0] > low[0]
    for column, least, most in zip(columns, low, high, strict=True):
        inside &= (column > least) & (column < most)
    return np.flatnonzero(inside)


def key_light(stage: Stage, points, body):
    """Share of the key light that reaches each point, 0..1."""
    frame = stage.frame()
    seen = np.ones(len(points), np.float32)
    casters = [(index, shape) for index, shape in enumerate(stage.bodies) if not shape.detail]
    if not casters:
        return seen
    columns = np.ascontiguousarray((points @ frame.T.astype(np.float32)).T)
    boxes = []
    for _, shape in casters:
        corners = shape.corners @ frame.T
        pad = 0.02 + SOFTNESS * max(shape.corners[:, 1].max(), 0) / stage.light[1]  # its shadow on the floor
        boxes.append((corners.min(0) - (pad, pad, 99), corners.max(0) + np.array([pad, pad, 0])))
    some = _within(columns, np.min([low for low, _ in boxes], 0), np.max([high for _, high in boxes], 0))
    columns, points, body = columns[:, some], points[some], body[some]
    for (index, shape), box in zip(casters, boxes, strict=True):
        here = _within(columns, *box)
        if shape.convex:
            here = here[body[here] != index]
        if len(here):
            to = some[here]
            seen[to] = np.minimum(seen[to], shape.visibility(points[here], stage.light, frame))
    return seen


def openness(stage: Stage, points, normals):
    """Contact darkening, 0 (wedged) .. 1 (open), from how near the bodies are a little above each point."""
    result = np.ones(len(points), np.float32)
    shapes = [shape for shape in stage.bodies if not shape.detail]
    if not shapes:
        return result
    for reach, weight in ((CREASE, 0.35), (HOLLOW, 0.5)):
        probes = points + np.float32(reach) * normals
        lows, highs = (np.stack([side(shape.corners, 0) for shape in shapes]) for side in (np.min, np.max))
        some = _within(probes.T, lows.min(0) - reach, highs.max(0) + reach)
        probes = probes[some]
        columns = np.ascontiguousarray(probes.T)
        gap = np.minimum(np.float32(reach), columns[1])
        for shape, low, high in zip(shapes, lows - reach, highs + reach, strict=True):
            here = _within(columns, low, high)
            if len(here):
                gap[here] = np.minimum(gap[here], shape.distance(probes[here]))
        result[some] *= 1 - weight * smooth(1 - gap / np.float32(reach))
    return result


def shade(stage: Stage, camera: Camera, x, y, hits, light) -> np.ndarray:
    """Display RGB 0..1, (N, 3), of what `cast` found at pixels x, y, under `light` (key light, openness)."""
    t, body, normals, rays = hits
    points, (lit, open_sky) = camera.eye.astype(np.float32) + t[:, None] * rays, light
    solid, backdrop = np.flatnonzero(body >= 0), np.flatnonzero(body < 0)
    colours = np.array([shape.colour for shape in stage.bodies] or [0])
    rgb = np.empty((len(t), 3), np.float32)
    albedo = stage.palette[colours[body[solid]]]
    rgb[solid] = _clay(stage, albedo, *(part[solid] for part in (normals, rays, lit, open_sky, points)))
    rgb[backdrop] = _backdrop(stage, camera, *(part[backdrop] for part in (x, y, points, lit, open_sky)))
    return GAMMA[(np.clip(rgb, 0, 1) * 4095 + 0.5).astype(np.int32)]


def light_of(stage: Stage, camera: Camera, hits):
    """Key light and openness, each (N,) 0..1, at the surfaces that `cast` found."""
    t, body, normals, rays = hits
    points = camera.eye.astype(np.float32) + t[:, None] * rays
    return key_light(stage, points + np.float32(0.004) * normals, body), openness(stage, points, normals)


def _clay(stage, albedo, normals, rays, lit, open_sky, points):
    light = stage.light.astype(np.float32)
    facing = normals @ light
    wrapped = np.clip((facing + 0.22) / 1.22, 0, 1) * lit
    up = (0.5 + 0.5 * normals[:, 1])[:, None]
    near_floor = np.exp(-1.6 * points[:, 1])[:, None]
    bounced = 0.16 + 0.42 * near_floor * stage.floor.astype(np.float32)
    ambient = up * SKY + (1 - up) * bounced
    shine = unit(light - rays)
    gloss = np.clip((normals * shine).sum(-1), 0, 1)
    grazing = 1 - np.clip(-(normals * rays).sum(-1), 0, 1)
    rim = grazing**3 * (0.35 + 0.65 * up[:, 0]) * open_sky
    rgb = albedo * (0.92 * wrapped[:, None] * SUN + ambient * open_sky[:, None] * 0.8)
    rgb += albedo * (1 - albedo) * (0.18 * (1 - lit * np.clip(facing, 0, 1)))[:, None] * 0.5
    return rgb + (stage.gloss * (0.55 * gloss**14 + 0.5 * gloss**70) * lit + 0.16 * rim)[:, None]


def _backdrop(stage, camera, x, y, points, lit, open_sky):
    heading = camera.axes[2] * (1, 0, 1) / np.linalg.norm(camera.axes[2] * (1, 0, 1))
    ahead = (points - camera.eye.astype(np.float32)) @ heading.astype(np.float32)
    cove = smooth((ahead - np.float32(stage.wall_distance)) * np.float32(1 / stage.cove) + 1)
    rise = smooth(1.05 - y / camera.size)
    floor, wall, top = (colour.astype(np.float32)[:, None] for colour in (stage.floor, stage.wall, stage.top))
    base = floor + (wall - floor + (top - wall) * rise) * cove
    glow = 1.06 - 0.24 * ((x / camera.size - 0.5) ** 2 + (y / camera.size - 0.45) ** 2)
    dark = (0.5 + 0.5 * lit) * (0.35 + 0.65 * open_sky)
    return (base * (glow * dark) * (1 + (1 - dark) * (0.5 * base - 0.25))).T


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A rendered stage: image uint8 (H, W, 3), depth float32 from the camera, mask uint8 (0 is backdrop)."""

    image: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    body: np.ndarray


def render(stage: Stage, camera: Camera) -> Picture:
    """Casts and shades every pixel, then shades four points of each pixel that lies on an edge."""
    size = camera.size
    y, x = (part.ravel() for part in np.mgrid[0.5:size, 0.5:size].astype(np.float32))
    hits = cast(stage, camera, x, y)
    light = light_of(stage, camera, hits)
    rgb = shade(stage, camera, x, y, hits, light)
    depth, body = hits[0].astype(np.float32).reshape(size, size), hits[1].reshape(size, size)
    edge = np.flatnonzero(_edges(stage, depth, body))
    if len(edge):
        dx, dy = np.array([(-0.25, 0.25, -0.25, 0.25), (-0.25, -0.25, 0.25, 0.25)], np.float32)
        fx, fy = (x[edge, None] + dx).ravel(), (y[edge, None] + dy).ravel()
        fine = cast(stage, camera, fx, fy)
        near = _same_body(fine[1], np.repeat(edge, 4), body)
        four = shade(stage, camera, fx, fy, fine, [part[near] for part in light])
        rgb[edge] = four.reshape(-1, 4, 3).mean(1)
    things = np.array([0, 0] + [shape.thing for shape in stage.bodies], np.uint8)
    image = (rgb.reshape(size, size, 3) * 255 + 0.5).astype(np.uint8)
    return Picture(image=image, depth=depth, mask=things[body + 2], body=body)


def _same_body(wanted, pixel, body):
    """For each sub-pixel the pixel beside it, or its own, that shows the same body."""
    size, flat, found = len(body), body.ravel(), pixel.copy()
    row, column = pixel // size, pixel % size
    open_ = np.flatnonzero(flat[pixel] != wanted)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        beside = np.clip(row[open_] + dy, 0, size - 1) * size + np.clip(column[open_] + dx, 0, size - 1)
        same = flat[beside] == wanted[open_]
        found[open_[same]] = beside[same]
        open_ = open_[~same]
    return found


def _edges(stage, depth, body):
    colours = np.array([-1, -1] + [shape.colour + 100 * shape.thing for shape in stage.bodies])[body + 2]
    edge = np.zeros(body.shape, bool)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        step = (colours[before] != colours[after]) | (np.abs(depth[before] - depth[after]) > 0.06)
        step &= (body[before] >= 0) | (body[after] >= 0)
        edge[before] |= step
        edge[after] |= step
    return edge
