"""The poses live here: each is a set of joint angles that puts the mannequin's joints in their places.

Body frame: x to the subject's LEFT, y up, z the way it faces. A segment of a limb is given by two angles in
degrees: how far it is raised from hanging straight down (0) to straight up (180), and the way it is raised: 0
outward, 90 forward, -90 backward, 180 inward. A limb is (upper raise, upper way, lower raise, lower way).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .shapes import cross, unit

KEYPOINTS = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
             "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
             "right_eye", "left_eye", "right_ear", "left_ear")  # OpenPose-18; right is the subject's right
UPPER_ARM, FOREARM, THIGH, SHIN = 0.26, 0.24, 0.35, 0.35
SPINE, SHOULDER, HIP, NECK_TO_HEAD = 0.47, 0.19, 0.10, 0.285
ARM, LEG = (12, 0, 10, 45), (5, 0, 4, 0)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One pose, in degrees; torso and head are (pitch forward, lean to its left, turn to its left)."""

    torso: tuple[float, float, float] = (0, 0, 0)
    head: tuple[float, float, float] = (0, 0, 0)
    right_arm: tuple[float, float, float, float] = ARM
    left_arm: tuple[float, float, float, float] = ARM
    right_leg: tuple[float, float, float, float] = LEG
    left_leg: tuple[float, float, float, float] = LEG
    lift: float = 0.0  # of the lowest point above the floor, in world units
    seat: bool = False  # sits on a box
    mirrors: bool = True  # its mirror image goes by the same name
    turn: tuple[float, float] = (-40, 40)  # sensible turns of the body from the camera
    sideways: bool = False  # shows itself best when turned by 20 degrees or more
    free: float = 5.0  # spread of the noise on every angle


def _both(arm=ARM, leg=LEG, **rest) -> Pose:
    return Pose(right_arm=arm, left_arm=arm, right_leg=leg, left_leg=leg, **rest)


POSES: dict[str, Pose] = {
    "standing": _both(),
    "waving": Pose(right_arm=(92, 15, 160, 10), head=(0, 6, 0)),
    "walking": Pose(right_leg=(28, 90, 12, 90), left_leg=(18, -90, 38, -90), right_arm=(26, -85, 12, -80),
                    left_arm=(28, 80, 52, 85), turn=(-75, 75), sideways=True),
    "running": Pose(torso=(16, 0, 0), right_leg=(68, 88, 25, -90), left_leg=(28, -90, 92, -90),
                    right_arm=(52, -80, 38, 85), left_arm=(38, 75, 112, 88), lift=0.05, turn=(-75, 75),
                    sideways=True),
    "sitting on the floor": _both((34, -75, 24, -80), (84, 75, 86, 82), torso=(-8, 0, 0), turn=(-60, 60),
                                  sideways=True),
    "sitting on a box": _both((26, 70, 62, 88), (84, 80, 4, 90), seat=True, turn=(-65, 65), sideways=True),
    "arms raised": _both((158, 0, 168, 0)),
    "hand raised": Pose(right_arm=(168, 10, 174, 0)),
    "lunging": Pose(right_leg=(82, 88, 6, -90), left_leg=(34, -90, 58, -90), right_arm=(45, -15, 58, -170),
                    left_arm=(45, -15, 58, -170), turn=(-75, 75), sideways=True),
    "kicking": Pose(torso=(-14, 0, 0), right_leg=(84, 75, 86, 78), left_leg=(4, 0, 6, -90),
                    right_arm=(60, 0, 66, 20), left_arm=(48, 30, 74, 60), turn=(-65, 65), sideways=True),
    "dancing": Pose(torso=(0, 12, 0), head=(0, 14, 0), right_arm=(152, 0, 176, 160),
                    left_arm=(70, 10, 98, 30), right_leg=(38, 10, 22, 20),
                    left_leg=(12, 40, 20, -70), free=8),
    "pointing left": Pose(right_arm=(90, 5, 91, 3), head=(0, 0, -28), mirrors=False, turn=(-22, 22)),
    "pointing right": Pose(left_arm=(90, 5, 91, 3), head=(0, 0, 28), mirrors=False, turn=(-22, 22)),
    "hands on hips": _both((48, -18, 54, 170), (9, 0, 7, 0)),
    "crouching": _both((52, 72, 78, 100), (104, 62, 38, -88), torso=(32, 0, 0), head=(-22, 0, 0),
                       turn=(-60, 60), sideways=True),
    "jumping": _both((146, 12, 160, 0), (30, 55, 52, -88), lift=0.32),
    "t-pose": _both((90, 0, 90, 0), free=3, turn=(-25, 25)),
    "bowing": _both((10, -20, 8, -20), (3, 0, 3, 0), torso=(48, 0, 0), head=(-6, 0, 0), turn=(-70, 70),
                    sideways=True, free=4),
    "thinking": Pose(head=(8, 6, 0), right_arm=(42, 84, 150, 158), left_arm=(26, 40, 82, 155), free=3),
    "stretching": Pose(torso=(0, 24, 0), head=(0, 10, 0), right_arm=(168, 0, 160, 178),
                       left_arm=(46, -18, 52, 172), right_leg=(14, 0, 14, 0),
                       left_leg=(12, 0, 12, 0), turn=(-30, 30)),
    "balancing on one leg": Pose(right_leg=(2, 0, 2, 0), left_leg=(78, 62, 14, -90), right_arm=(84, 0, 88, 0),
                                 left_arm=(84, 0, 88, 0)),
    "star jump": _both((132, 0, 134, 0), (34, 0, 34, 0), lift=0.24, turn=(-25, 25)),
    "kneeling": _both((24, 60, 40, 110), (10, 80, 92, -90), turn=(-65, 65), sideways=True),
    "kneeling on one knee": Pose(right_leg=(86, 80, 4, 90), left_leg=(4, -90, 90, -90),
                                 right_arm=(36, 75, 66, 95), turn=(-70, 70), sideways=True),
    "flexing": _both((86, 5, 166, 178), (12, 0, 11, 0)),
    "hands up": _both((88, 5, 172, 5)),
    "reaching forward": _both((86, 86, 90, 90), turn=(-70, 70), sideways=True),
    "arms crossed": _both((30, 58, 84, 150), (8, 0, 7, 0), free=3),
    "shrugging": _both((30, 10, 92, 30), head=(0, 12, 0)),
    "surfing": Pose(torso=(10, 6, 0), right_leg=(52, 15, 12, 10), left_leg=(46, 15, 16, -20),
                    right_arm=(78, 0, 92, 0), left_arm=(88, 0, 80, 10), turn=(-55, 55)),
    "throwing": Pose(torso=(-6, -8, -25), right_arm=(104, -40, 150, -70), left_arm=(80, 60, 90, 80),
                     right_leg=(12, 0, 14, -60), left_leg=(34, 85, 14, 90), turn=(-60, 60), sideways=True),
    "lying down": _both((28, -5, 22, 0), (86, 84, 88, 86), torso=(-86, 0, 0), head=(22, 0, 0),
                        turn=(55, 125), free=3),
}


def drawn(rng: np.random.Generator, name: str) -> Pose:
    """The named pose with noise on its angles, perhaps mirrored; "free" is a new pose within human limits."""
    pose = free_pose(rng) if name == "free" else POSES[name]
    spread = pose.free

    def shaken(angles, scale=1.0):
        return tuple(float(a + rng.normal(0, spread * scale)) for a in angles)

    pose = replace(pose, torso=shaken(pose.torso, 0.6), head=shaken(pose.head, 1.2),
                   right_arm=shaken(pose.right_arm), left_arm=shaken(pose.left_arm),
                   right_leg=shaken(pose.right_leg, 0.6), left_leg=shaken(pose.left_leg, 0.6))
    return mirrored(pose) if pose.mirrors and rng.random() < 0.5 else pose


def mirrored(pose: Pose) -> Pose:
    """The pose as a mirror shows it."""
    flip = (1, -1, -1)
    return replace(pose, torso=tuple(a * f for a, f in zip(pose.torso, flip, strict=True)),
                   head=tuple(a * f for a, f in zip(pose.head, flip, strict=True)),
                   right_arm=pose.left_arm, left_arm=pose.right_arm,
                   right_leg=pose.left_leg, left_leg=pose.right_leg, turn=(-pose.turn[1], -pose.turn[0]))


def free_pose(rng: np.random.Generator) -> Pose:
    """Random joint angles within human limits: elbows bend at most 140 degrees, knees only backward."""

    def arm():
        raise_, way = rng.uniform(5, 165), rng.uniform(-25, 100)
        upper = direction(1, raise_, way)
        while True:
            lower = (rng.uniform(5, 175), rng.uniform(-30, 180))
            bend = np.degrees(np.arccos(np.clip(upper @ direction(1, *lower), -1, 1)))
            if bend < 130:
                return (raise_, way, *lower)

    def leg():
        raise_, way = rng.uniform(0, 75), rng.choice((rng.uniform(-5, 95), rng.uniform(75, 95)))
        forward, side = raise_ * np.sin(np.radians(way)), raise_ * np.cos(np.radians(way))
        behind, aside = forward - rng.uniform(0, 90) * rng.random(), side * rng.uniform(0.6, 1)
        return (raise_, way, float(np.hypot(behind, aside)), float(np.degrees(np.arctan2(behind, aside))))

    return Pose(right_arm=arm(), left_arm=arm(),
                right_leg=leg(), left_leg=leg(), free=0.0,
                torso=(rng.uniform(-12, 25), rng.uniform(-18, 18), rng.uniform(-25, 25)),
                head=(rng.uniform(-15, 20), rng.uniform(-12, 12), rng.uniform(-35, 35)))


def direction(side: int, raised: float, way: float) -> np.ndarray:
    """Unit direction of a segment on one side (+1 the subject's left, -1 its right)."""
    raised, way = np.radians(raised), np.radians(way)
    return np.array([side * np.sin(raised) * np.cos(way), -np.cos(raised), np.sin(raised) * np.sin(way)])


def turned(pitch: float, lean: float, turn: float) -> np.ndarray:
    """Rotation matrix (columns are the turned axes) for angles in degrees."""
    angles = np.radians([pitch, lean, turn])
    (cp, cl, ct), (sp, sl, st) = np.cos(angles), np.sin(angles)
    about_y = np.array([[ct, 0, st], [0, 1, 0], [-st, 0, ct]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cl, sl, 0], [-sl, cl, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def joints(pose: Pose) -> dict[str, np.ndarray]:
    """Positions, from the pelvis, in the body frame: KEYPOINTS, pelvis, head, crown, hands, heels, toes."""
    torso = turned(*pose.torso)
    head = torso @ turned(*pose.head)
    where = {"pelvis": np.zeros(3), "neck": torso @ (0, SPINE, 0)}
    where["head"] = where["neck"] + torso @ (0, 0.09, 0) + head @ (0, NECK_TO_HEAD - 0.09, 0.01)
    where["crown"] = where["head"] + head @ (0, 0.2, 0)
    where["nose"] = where["head"] + head @ (0, -0.02, 0.219)
    for side, name in ((-1, "right"), (1, "left")):
        upper, lower = (pose.right_arm, pose.right_leg) if side < 0 else (pose.left_arm, pose.left_leg)
        where[f"{name}_eye"] = where["head"] + head @ (side * 0.076, 0.036, 0.181)
        where[f"{name}_ear"] = where["head"] + head @ (side * 0.211, 0.0, 0.0)
        shoulder = where["neck"] + torso @ (side * SHOULDER, -0.03, 0)
        elbow = shoulder + UPPER_ARM * torso @ direction(side, *upper[:2])
        reach = torso @ direction(side, *upper[2:])
        hip = np.array([side * HIP, -0.03, 0.0])
        knee = hip + THIGH * direction(side, *lower[:2])
        down = direction(side, *lower[2:])
        ankle = knee + SHIN * down
        toward = _foot(down)
        sole = unit(down - (down @ toward) * toward)
        limbs = {"shoulder": shoulder, "elbow": elbow, "wrist": elbow + FOREARM * reach,
                 "hand": elbow + (FOREARM + 0.055) * reach, "hip": hip, "knee": knee, "ankle": ankle,
                 "heel": ankle + 0.035 * sole - 0.02 * toward, "toe": ankle + 0.03 * sole + 0.12 * toward}
        where |= {f"{name}_{part}": spot for part, spot in limbs.items()}
    return where


def _foot(shin):
    """Where the toes point for a shin direction: forward when it hangs down, and turned along with it."""
    axis, forward = cross((0, -1, 0), shin), np.array([0.0, 0, 1])
    toward = -shin[1] * forward + cross(axis, forward) + axis * (axis @ forward) / (1 + max(-shin[1], -0.95))
    if shin[1] < -0.82:  # a foot that stands is flat
        toward[1] = 0
    toward = toward + 4 * max(0.0, -shin[2] - 0.6) * shin  # behind the body the foot is stretched
    return unit(toward)


def drawing(pose: Pose) -> np.ndarray:
    """KEYPOINTS (18, 2) of the pose as a picture shows it, x and y in 0..1, without perspective."""
    turn = np.mean(pose.turn) if not pose.sideways else 0.55 * pose.turn[1]
    where = joints(pose)
    flat = np.stack([turned(0, 0, float(turn)) @ where[name] for name in KEYPOINTS])[:, :2] * (1, -1)
    low, high = flat.min(0), flat.max(0)
    scale = 0.84 / max(1.55, (high - low).max())  # one scale for all, so that a crouching figure is small
    return 0.5 + (flat - (low + high) / 2) * scale


def preset() -> str:
    """The library as presets/poses.yaml holds it: 18 points a pose, in 0..1, in the order of KEYPOINTS."""
    lines = ["# Named poses as OpenPose-18 keypoints [x, y], 0..1 of the picture, y down.",
             "# Right is the subject's right, which is on the left of the picture when it faces us.",
             "# Made by: python -m modules.training.toyland.poses > presets/poses.yaml", "keypoints:",
             *(f"  - {name}" for name in KEYPOINTS), "poses:"]
    for name, pose in POSES.items():
        points = [f"[{x:.3f}, {y:.3f}]" for x, y in drawing(pose)]
        lines += [f"  {name}:", *(f"    - {point}" for point in points)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(preset(), end="")
