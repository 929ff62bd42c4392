"""The bodies that scenes are built of live here: each knows where a ray meets it.

Every body answers the same calls: `corners` (points whose hull holds it), `moved`, `hit` (by rays from one
eye), `distance` (to its surface), `visibility` (of the key light past it). Units are about metres, y is up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

SOFTNESS = 0.13  # half-width of a penumbra per unit of distance between occluder and receiver
UP = np.array([0.0, 1.0, 0.0])
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
TETRA = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], float)


def smooth(x):
    """Smoothstep of x over 0..1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def unit(vectors):
    """The vectors divided by their length, along the last axis."""
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def cross(a, b) -> np.ndarray:
    """The vector product of two single vectors, without np.cross's overhead."""
    (a0, a1, a2), (b0, b1, b2) = a, b
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


@dataclass(frozen=True, eq=False)
class RoundCone:
    """The hull of two balls, (a, ra) and (b, rb): a ball when a = b, a capsule when ra = rb."""

    a: np.ndarray
    b: np.ndarray
    ra: float
    rb: float
    colour: int = 0
    thing: int = 1
    detail: bool = False  # too small to throw a shadow
    convex = True

    @cached_property
    def corners(self) -> np.ndarray:
        """Points (n, 3) whose hull holds the body."""
        reach = max(self.ra, self.rb)
        return np.concatenate([end + reach * CUBE for end in (self.a, self.b)])

    def moved(self, turn, shift, **changes) -> RoundCone:
        """The body turned by the matrix `turn` about the origin, then shifted, with other fields changed."""
        return replace(self, a=turn @ self.a + shift, b=turn @ self.b + shift, **changes)

    def hit(self, eye, rays):
        """Distances (inf where missed) and unit normals of rays from one eye, in closed form."""
        axis, from_a, from_b = self.b - self.a, eye - self.a, eye - self.b
        taper = self.ra - self.rb
        length2 = axis @ axis
        slant2 = length2 - taper * taper
        along, toward_a, toward_b = rays @ axis, rays @ from_a, rays @ from_b
        t, axial = np.full(len(rays), np.inf), np.zeros(len(rays))
        if slant2 > 1e-9:
            start = axis @ from_a
            quadratic = slant2 - along * along
            linear = slant2 * toward_a - start * along + along * taper * self.ra
            constant = slant2 * (from_a @ from_a) - start**2
            constant += self.ra * (2 * start * taper - length2 * self.ra)
            square = linear * linear - quadratic * constant
            with np.errstate(divide="ignore", invalid="ignore"):
                side = (-np.sqrt(square) - linear) / quadratic
                height = start - self.ra * taper + side * along
                on_side = (square > 0) & (height > 0) & (height < slant2)
            t, axial = np.where(on_side, side, np.inf), np.where(on_side, height / slant2, 0)
        open_end = ~np.isfinite(t)
        ends = ((toward_a, from_a, self.ra), (toward_b, from_b, self.rb))
        for end, (toward, offset, radius) in enumerate(ends):
            square = toward * toward - offset @ offset + radius * radius
            cap = np.where(square > 0, -toward - np.sqrt(np.maximum(square, 0)), np.inf)
            nearer = open_end & (cap < t)
            t, axial = np.where(nearer, cap, t), np.where(nearer, float(end), axial)
        finite = np.where(np.isfinite(t), t, 0.0)
        foot = self.a + axial[:, None] * axis
        return t, unit(eye + finite[:, None] * rays - foot + 1e-12)

    def distance(self, points):
        """Distance to the surface, exact for balls and capsules and close to it for tapers."""
        axis = (self.b - self.a).astype(np.float32)
        offset = points - self.a.astype(np.float32)
        h = np.clip(offset @ axis / np.float32(max(axis @ axis, 1e-12)), 0, 1)
        offset -= h[:, None] * axis
        radius = np.float32(self.ra) + h * np.float32(self.rb - self.ra)
        return np.sqrt(np.einsum("ij,ij->i", offset, offset)) - radius

    def visibility(self, points, light, frame):
        """Share of the key light that passes the body to the points, from its outline seen by the light."""
        (au, av, aw), (bu, bv, bw) = frame @ self.a, frame @ self.b
        u, v, w = (points @ frame.T.astype(np.float32)).T
        du, dv = np.float32(bu - au), np.float32(bv - av)
        h = np.clip(((u - au) * du + (v - av) * dv) / max(du * du + dv * dv, 1e-9), 0, 1)
        radius = self.ra + h * (self.rb - self.ra)
        gap = np.hypot(u - au - h * du, v - av - h * dv) - radius
        above = aw + h * (bw - aw) - w
        width = 0.015 + SOFTNESS * np.maximum(above, 0)
        shade = (1 - smooth(gap / width * 0.5 + 0.5)) * np.minimum(1, 1.4 * radius / width)
        return 1 - shade * smooth(above / radius)


@dataclass(frozen=True, eq=False)
class Cushion:
    """The hull of four equal balls whose centres `rim` (4, 3), in order around, are a flat convex figure."""

    rim: np.ndarray
    radius: float
    colour: int = 0
    thing: int = 1
    convex = True
    detail = False

    @cached_property
    def corners(self) -> np.ndarray:
        """Points (n, 3) whose hull holds the body."""
        return np.concatenate([spot + self.radius * CUBE for spot in self.rim])

    def moved(self, turn, shift, **changes) -> Cushion:
        """The body turned by the matrix `turn` about the origin, then shifted, with other fields changed."""
        return replace(self, rim=self.rim @ turn.T + shift, **changes)

    @cached_property
    def normal(self) -> np.ndarray:
        """The unit normal of the plane of the rim."""
        return unit(cross(self.rim[1] - self.rim[0], self.rim[2] - self.rim[1]))

    def hit(self, eye, rays):
        """Distances (inf where missed) and unit normals of rays from one eye, in closed form."""
        best, facing = np.full(len(rays), np.inf), np.zeros((len(rays), 3))
        for k in range(4):
            side = RoundCone(self.rim[k], self.rim[(k + 1) % 4], self.radius, self.radius)
            t, normals = side.hit(eye, rays)
            best, facing = np.minimum(best, t), np.where((t < best)[:, None], normals, facing)
        normal = self.normal
        normal = normal if normal @ (eye - self.rim[0]) > 0 else -normal
        with np.errstate(divide="ignore"):
            t = (self.rim[0] + self.radius * normal - eye) @ normal / (rays @ normal)
        spots = eye + np.where((t > 0) & (t < best), t, 0)[:, None] * rays
        inside = (t > 0) & (t < best)
        for k in range(4):
            inside &= (spots - self.rim[k]) @ cross(self.normal, self.rim[(k + 1) % 4] - self.rim[k]) > 0
        return np.where(inside, t, best), np.where(inside[:, None], normal, facing)

    def distance(self, points):
        """Signed distance of world points (N, 3) outside the hull, float32."""
        normal = self.normal.astype(np.float32)
        away, inside = np.full(len(points), np.inf, np.float32), np.ones(len(points), bool)
        for k in range(4):
            start = self.rim[k].astype(np.float32)
            axis = self.rim[(k + 1) % 4].astype(np.float32) - start
            offset = points - start
            inside &= offset @ cross(normal, axis) > 0
            offset -= np.clip(offset @ axis / (axis @ axis), 0, 1)[:, None] * axis
            away = np.minimum(away, np.einsum("ij,ij->i", offset, offset))
        flat = np.abs((points - self.rim[0].astype(np.float32)) @ normal)
        return np.where(inside, flat, np.sqrt(away)) - np.float32(self.radius)

    def visibility(self, points, light, frame):
        """Share of the key light that passes the body to the points, from its outline seen by the light."""
        rim = self.rim @ frame.T
        u, v, w = (points @ frame.T.astype(np.float32)).T
        near, deep = np.full(len(points), np.inf, np.float32), np.ones(len(points), bool)
        spin = np.sign((self.normal @ frame.T)[2])
        for k in range(4):
            (u0, v0, _), (du, dv, _) = rim[k], rim[(k + 1) % 4] - rim[k]
            h = np.clip(((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv), 0, 1)
            near = np.minimum(near, np.hypot(u - u0 - h * du, v - v0 - h * dv))
            deep &= spin * (du * (v - v0) - dv * (u - u0)) > 0
        gap = np.where(deep, -near, near) - self.radius
        above = rim[:, 2].mean() - w
        width = 0.015 + SOFTNESS * np.maximum(above, 0)
        return 1 - (1 - smooth(gap / width * 0.5 + 0.5)) * smooth(above / self.radius)


@dataclass(frozen=True, eq=False)
class Solid:
    """A body known by its signed distance; the rows of `turn` are its axes, `size` are its measures."""

    kind: str
    centre: np.ndarray
    turn: np.ndarray
    size: tuple[float, float, float]
    colour: int = 0
    thing: int = 1
    detail = False

    @property
    def convex(self) -> bool:
        return self.kind not in ("ring", "star")

    @cached_property
    def corners(self) -> np.ndarray:
        """Points (n, 3) whose hull holds the body."""
        return self.centre + (CUBE * EXTENT[self.kind](*self.size)) @ self.turn

    def moved(self, turn, shift, **changes) -> Solid:
        """The body turned by the matrix `turn` about the origin, then shifted, with other fields changed."""
        return replace(self, centre=turn @ self.centre + shift, turn=self.turn @ turn.T, **changes)

    def distance(self, points):
        """Signed distance of world points (N, 3), float32."""
        local = (points - self.centre.astype(np.float32)) @ self.turn.T.astype(np.float32)
        return DISTANCE[self.kind](local, *self.size)

    def hit(self, eye, rays):
        """Distances (inf where missed) and unit normals of rays from one eye, sphere-traced to 1e-5."""
        origin, local = (eye - self.centre) @ self.turn.T, rays @ self.turn.T
        half = EXTENT[self.kind](*self.size) + 1e-6
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = np.stack([(-half - origin) / local, (half - origin) / local])
        t, leave = np.fmax(sides.min(0).max(-1), 0.0), sides.max(0).min(-1)
        found, alive = np.zeros(len(rays), bool), np.flatnonzero(t < leave)
        for _ in range(160):
            gap = DISTANCE[self.kind](origin + t[alive, None] * local[alive], *self.size)
            on = gap < 1e-5
            t[alive] += np.where(on, gap, np.maximum(gap, 3e-3))  # a ray that grazes must not stand still
            found[alive[on]] = True
            alive = alive[~on & (t[alive] < leave[alive])]
            if not len(alive):
                break
        for _ in range(3):
            t[found] += DISTANCE[self.kind](origin + t[found, None] * local[found], *self.size)
        normals = np.zeros_like(rays)
        spots = origin + t[found, None] * local[found]
        slope = sum(k * DISTANCE[self.kind](spots + 1e-4 * k, *self.size)[:, None] for k in TETRA)
        normals[found] = unit(slope + 1e-12) @ self.turn
        return np.where(found, t, np.inf), normals

    def visibility(self, points, light, frame):
        """Share of the key light that passes this body to the points, by marching toward the light."""
        light = light.astype(np.float32)
        reach = np.float32(np.linalg.norm(EXTENT[self.kind](*self.size)))
        ahead = (self.centre.astype(np.float32) - points) @ light
        t = np.maximum(ahead - reach, np.float32(0.02))
        seen = np.ones(len(points), np.float32)
        for _ in range(12):
            gap = self.distance(points + t[:, None] * light)
            seen = np.minimum(seen, gap / (0.01 + SOFTNESS * t) * 0.5 + 0.5)
            t += np.maximum(gap, 0.02)
        return np.where(ahead + reach > 0, smooth(seen), 1)


def _corner(q, radius):
    """Distance to a rounded corner from the offsets q (N, k) past its faces."""
    out = np.maximum(q, 0)
    return np.sqrt(np.einsum("ij,ij->i", out, out)) + np.minimum(q.max(-1), 0) - radius


def _box(p, width, height, depth):
    radius = 0.16 * min(width, height, depth)
    return _corner(np.abs(p) - (np.array([width, height, depth], p.dtype) - radius), radius)


def _cylinder(p, radius, height, bevel):
    past = np.stack([np.hypot(p[:, 0], p[:, 2]) - radius, np.abs(p[:, 1]) - height], -1)
    return _corner(past + bevel, bevel)


def _cone(p, radius, height, bevel):
    """A cone of half-height `height`, tip up, its edges rounded by `bevel`."""
    base, high = radius - 1.6 * bevel, height - bevel
    q, y = np.hypot(p[:, 0], p[:, 2]), p[:, 1]
    cap = np.hypot(np.maximum(q - np.where(y < 0, base, 0), 0), np.abs(y) - high)
    s = np.clip((q * base + (high - y) * 2 * high) / (base * base + 4 * high * high), 0, 1)
    qs, ys = q - s * base, y - (high - 2 * high * s)
    inside = (qs < 0) & (np.abs(y) < high)
    return np.where(inside, -1, 1) * np.minimum(cap, np.hypot(qs, ys)) - bevel


def _ring(p, radius, tube, _):
    return np.hypot(np.hypot(p[:, 0], p[:, 2]) - radius, p[:, 1]) - tube


def _star(p, radius, thick, bevel):
    """A five-pointed star standing in the xy plane, point up."""
    angle = np.pi / 5
    theta = np.mod(np.arctan2(p[:, 0], p[:, 1]) + angle, 2 * angle) - angle
    length = np.hypot(p[:, 0], p[:, 1])
    x, y = length * np.abs(np.sin(theta)), length * np.cos(theta)
    outer, inner = radius - 1.5 * bevel, 0.56 * (radius - 1.5 * bevel)
    ex, ey = inner * np.sin(angle), inner * np.cos(angle) - outer
    s = np.clip((x * ex + (y - outer) * ey) / (ex * ex + ey * ey), 0, 1)
    flat = np.hypot(x - s * ex, y - outer - s * ey) * np.sign(x * -ey + (y - outer) * ex)
    return _corner(np.stack([flat, np.abs(p[:, 2]) - (thick - bevel)], -1), bevel)


DISTANCE = {"box": _box, "cylinder": _cylinder, "cone": _cone, "ring": _ring, "star": _star}
EXTENT = {  # half-widths of the box around each solid
    "box": lambda w, h, d: np.array([w, h, d]),
    "cylinder": lambda r, h, b: np.array([r, h, r]),
    "cone": lambda r, h, b: np.array([r, h, r]),
    "ring": lambda r, t, _: np.array([r + t, t, r + t]),
    "star": lambda r, t, b: np.array([r, r, t]),
}


Body = RoundCone | Cushion | Solid
