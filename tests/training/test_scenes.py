"""The staged scenes against the truth: closed-form depth, joints where they are drawn, captions that hold."""

import colorsys
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from modules.training.toyland import poses, scene_words, scenes, shapes
from modules.training.toyland.props import COLOURS, PROPS
from modules.training.toyland.raycast import Camera, Stage, cast, render
from modules.training.toyland.scenes import scene

GREYS = np.full(3, 0.5, np.float32)
CAMERA = Camera.looking((0.4, 1.6, 5.0), (0.0, 0.6, 0.0), 150.0, 96)


def staged(*bodies) -> Stage:
    return Stage(
        bodies=bodies,
        palette=np.full((1, 3), 0.5, np.float32),
        floor=GREYS,
        wall=GREYS,
        top=GREYS,
        wall_distance=8.0,
        light=shapes.unit(np.array([0.5, 1.2, 0.6])),
    )


def rays_of(camera: Camera) -> np.ndarray:
    """The rays once more, in float64 and by another way: through the pixel centres of an image plane."""
    y, x = np.mgrid[0 : camera.size, 0 : camera.size] + 0.5
    right, up, ahead = camera.axes
    plane = ahead + ((x - camera.size / 2) / camera.focal)[..., None] * right
    plane = plane - ((y - camera.size / 2) / camera.focal)[..., None] * up
    return plane / np.linalg.norm(plane, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def many() -> list[scenes.Scene]:
    return [scene(seed, size=96) for seed in range(40)]


# ---------------------------------------------------------------- the ray caster


def test_depth_of_a_ball_on_the_floor_is_the_closed_form():
    centre, radius = np.array([0.1, 0.7, -0.2]), 0.7
    picture = render(staged(shapes.RoundCone(centre, centre, radius, radius)), CAMERA)
    rays, offset = rays_of(CAMERA), CAMERA.eye - centre
    half = rays @ offset
    square = half**2 - (offset @ offset - radius**2)
    clear = np.abs(square) > 1e-3  # a ray that grazes may fall on either side
    np.testing.assert_array_equal((picture.mask > 0)[clear], (square > 0)[clear])
    ball = square > 1e-3
    np.testing.assert_allclose(picture.depth[ball], (-half - np.sqrt(np.maximum(square, 0)))[ball], atol=1e-4)
    floor = (square < -1e-3) & (picture.body == -1)
    assert floor.sum() > 500
    np.testing.assert_allclose(picture.depth[floor], (-CAMERA.eye[1] / rays[..., 1])[floor], rtol=2e-5)


BODIES = {
    "capsule": shapes.RoundCone(np.array([-0.4, 0.5, 0.0]), np.array([0.5, 0.9, 0.3]), 0.3, 0.3),
    "cushion": shapes.Cushion(
        np.array([(-0.3, 0.4, 0), (0.3, 0.4, 0), (0.5, 1.1, 0.1), (-0.5, 1.1, 0.1)]), 0.2
    ),
    "box": shapes.Solid("box", np.array([0, 0.5, 0.0]), scenes._about_y(0.5), (0.5, 0.4, 0.3)),
    "cylinder": shapes.Solid("cylinder", np.array([0, 0.5, 0.0]), np.eye(3), (0.4, 0.5, 0.1)),
    "cone": shapes.Solid("cone", np.array([0, 0.5, 0.0]), np.eye(3), (0.5, 0.5, 0.08)),
    "ring": shapes.Solid("ring", np.array([0, 0.6, 0.0]), scenes._about_y(0.3), (0.5, 0.2, 0.0)),
    "star": shapes.Solid("star", np.array([0, 0.7, 0.0]), scenes._about_y(-0.4), (0.6, 0.2, 0.08)),
}


@pytest.mark.parametrize("name", BODIES)
def test_rays_stop_where_the_distance_is_zero_and_only_there(name):
    body, rays = BODIES[name], rays_of(CAMERA).reshape(-1, 3)
    t, normals = body.hit(CAMERA.eye, rays)
    hit = np.isfinite(t)
    assert hit.sum() > 300
    points = CAMERA.eye + t[hit, None] * rays[hit]
    assert np.abs(body.distance(points.astype(np.float32))).max() < 1e-3
    assert ((normals[hit] * rays[hit]).sum(-1) < 0.05).all(), "a normal looks away from the camera"
    steps = np.linspace(2, 8, 300)
    nearest = np.min([body.distance((CAMERA.eye + s * rays[~hit]).astype(np.float32)) for s in steps], axis=0)
    assert nearest.min() > -2e-3


@pytest.mark.parametrize("name", BODIES)
def test_corners_hold_the_body_and_move_with_it(name):
    body = BODIES[name]
    turn, shift = scenes._about_y(0.7), np.array([0.3, 0.1, -0.5])
    moved = body.moved(turn, shift, thing=5)
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (4000, 3))
    np.testing.assert_allclose(
        moved.distance((points @ turn.T + shift).astype(np.float32)),
        body.distance(points.astype(np.float32)),
        atol=1e-5,
    )
    inside = points[body.distance(points.astype(np.float32)) < 0]
    assert len(inside) > 10
    assert (inside >= body.corners.min(0) - 1e-6).all()
    assert (inside <= body.corners.max(0) + 1e-6).all()
    assert moved.thing == 5


def test_the_nearer_body_wins():
    near, far = np.array([0.0, 0.6, 1.0]), np.array([0.0, 0.6, -1.0])
    bodies = (shapes.RoundCone(far, far, 0.5, 0.5, thing=1), shapes.RoundCone(near, near, 0.2, 0.2, thing=2))
    x, y, _ = CAMERA.project(near)
    for order in (bodies, bodies[::-1]):
        assert render(staged(*order), CAMERA).mask[int(y), int(x)] == 2


def test_a_shadow_falls_away_from_the_light():
    stage = staged(shapes.RoundCone(np.array([0, 0.4, 0.0]), np.array([0, 0.4, 0.0]), 0.4, 0.4))
    away = np.array([0, 0.4, 0.0]) - stage.light * (0.4 / stage.light[1])  # the centre's shadow on the floor
    lit, dark = (
        render(stage, CAMERA).image[tuple(CAMERA.project(spot)[1::-1].astype(int))].mean()
        for spot in (away * (-1, 1, 1) + (0.6, 0, 0), away - (0.25, 0, 0.1))
    )
    assert dark < lit - 15


def test_an_empty_stage_is_floor_and_wall():
    body = cast(staged(), CAMERA, np.float32([48.5, 48.5]), np.float32([0.5, 95.5]))[1]
    assert body.tolist() == [-2, -1]


# ---------------------------------------------------------------- the mannequin


def test_keypoints_lie_where_the_joints_are_drawn():
    rng = np.random.default_rng(3)
    staged_set = scenes._arrange(rng, "figure", "free")
    stage, camera = scenes._shoot(rng, staged_set, 128)
    keypoints = scenes._keypoints(staged_set.joints, camera, render(stage, camera))
    for name, (x, y, _) in zip(poses.KEYPOINTS, keypoints, strict=True):
        spot = staged_set.joints[name]
        alone = render(staged(shapes.RoundCone(spot, spot, 0.05, 0.05)), camera)
        rows, columns = np.nonzero(alone.mask)
        assert abs(columns.mean() + 0.5 - x) < 0.6, name
        assert abs(rows.mean() + 0.5 - y) < 0.6, name


def test_visible_keypoints_lie_on_the_figure(many):
    seen = 0
    for shown in many:
        for x, y, visible in [] if shown.keypoints is None else shown.keypoints:
            if visible:
                seen += 1
                around = shown.mask[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
                assert (around == 1).any(), shown.facts["seed"]
    assert seen > 200


def test_the_subjects_right_is_on_the_viewers_left_when_it_faces_us():
    assert poses.KEYPOINTS[:3] == ("nose", "neck", "right_shoulder")
    seen = {"front": 0, "back": 0}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        set_ = scenes._arrange(rng, "figure", "standing")
        stage, camera = scenes._shoot(rng, set_, 64)
        right, left = (camera.project(set_.joints[f"{side}_shoulder"])[0] for side in ("right", "left"))
        view = "back" if abs(set_.yaw) > 120 else "front"
        seen[view] += 1
        assert (right < left) == (view == "front"), seed
        if view == "back" and seen["back"] == 1:
            nose = scenes._keypoints(set_.joints, camera, render(stage, camera))[0]
            assert nose[2] == 0, "a nose cannot be seen from behind"
    assert min(seen.values()) > 0


@pytest.mark.parametrize(("pose", "wrist", "sign"), [("pointing left", 4, -1), ("pointing right", 7, 1)])
def test_pointing_goes_to_that_side_of_the_picture(pose, wrist, sign):
    for seed in range(4):
        keypoints = scene(seed, size=64, kind="figure", pose=pose).keypoints
        assert sign * (keypoints[wrist, 0] - keypoints[1, 0]) > 8


def test_mirrored_pose_mirrors_the_joints():
    flip = {
        name: name.replace("left", "right") if "left" in name else name.replace("right", "left")
        for name in poses.joints(poses.POSES["waving"])
    }
    for pose in poses.POSES.values():
        straight, mirror = poses.joints(pose), poses.joints(poses.mirrored(pose))
        for name, spot in straight.items():
            np.testing.assert_allclose(mirror[flip[name]], spot * (-1, 1, 1), atol=1e-12)


def test_limbs_keep_their_lengths_and_elbows_their_limits():
    rng = np.random.default_rng(0)
    for name in [*poses.POSES, *["free"] * 20]:
        where = poses.joints(poses.drawn(rng, name))
        for side in ("left", "right"):
            upper = where[f"{side}_elbow"] - where[f"{side}_shoulder"]
            lower = where[f"{side}_wrist"] - where[f"{side}_elbow"]
            assert np.linalg.norm(upper) == pytest.approx(poses.UPPER_ARM)
            assert np.linalg.norm(lower) == pytest.approx(poses.FOREARM)
            bend = np.degrees(np.arccos(upper @ lower / poses.UPPER_ARM / poses.FOREARM))
            assert bend < (130.1 if name == "free" else 165), name


def test_the_figure_stands_on_the_floor():
    for seed, pose in enumerate(("standing", "kneeling", "lying down", "jumping")):
        rng = np.random.default_rng(seed)
        low = min(body.corners[:, 1].min() for body in scenes._arrange(rng, "figure", pose).bodies)
        assert low == pytest.approx(poses.POSES[pose].lift, abs=0.03)


def test_presets_hold_the_library_of_poses():
    text = (Path(__file__).parents[2] / "presets" / "poses.yaml").read_text()
    assert text == poses.preset()
    data = yaml.safe_load(text)
    assert len(data["poses"]) >= 20
    assert data["keypoints"] == list(poses.KEYPOINTS)
    for name, points in data["poses"].items():
        points = np.array(points)
        assert points.shape == (18, 2), name
        assert points.min() > 0, name
        assert points.max() < 1, name
    assert set(scene_words.DOING) == {*poses.POSES, "free"}


# ---------------------------------------------------------------- scenes


def test_a_scene_is_a_function_of_its_seed(many):
    again = scene(7, size=96)
    assert again.captions == many[7].captions
    assert again.facts == many[7].facts
    np.testing.assert_array_equal(again.image, many[7].image)
    np.testing.assert_array_equal(again.depth, many[7].depth)
    assert not np.array_equal(many[7].image, many[8].image)


def test_arrays_are_of_the_promised_kind(many):
    for shown in many:
        assert shown.image.shape == (96, 96, 3)
        assert shown.image.dtype == np.uint8
        assert shown.depth.dtype == np.float32
        assert np.isfinite(shown.depth).all()
        assert shown.depth.min() > 0.5
        assert set(np.unique(shown.mask)) == set(range(len(shown.facts["things"]) + 1))
        assert (shown.keypoints is None) == (shown.facts["kind"] == "objects")


def test_depth_and_camera_agree_with_the_floor(many):
    for shown in many[:10]:
        camera = Camera(
            **{
                key: np.array(value) if isinstance(value, list) else value
                for key, value in shown.facts["camera"].items()
            }
        )
        points = camera.eye + shown.depth[..., None] * rays_of(camera)
        assert np.abs(points[-1, :, 1]).max() < 1e-3 or shown.mask[-1].any(), "the bottom row shows the floor"
        assert points[..., 1].min() > -0.05


def test_things_wear_the_colour_that_is_told():
    hues = {
        name: colorsys.rgb_to_hsv(*np.array(rgb) / 255)[0]
        for name, rgb in COLOURS.items()
        if name in ("red", "yellow", "green", "blue", "purple", "pink")
    }
    checked = 0
    for seed in range(100, 120):
        shown = scene(seed, size=64, kind="objects")
        for index, thing in enumerate(shown.facts["things"]):
            if thing["colour"] in hues and not PROPS[thing["name"]].accents:
                seen = colorsys.rgb_to_hsv(*np.median(shown.image[shown.mask == index + 1], axis=0) / 255)[0]
                apart = {name: abs((seen - hue + 0.5) % 1 - 0.5) for name, hue in hues.items()}
                assert min(apart, key=lambda name: apart[name]) == thing["colour"], (seed, thing)
                checked += 1
    assert checked > 5


def test_held_out_pairs_are_a_twentieth_and_never_move():
    pairs = {
        (pose, wall): scenes.is_held_out({"pose": pose, "background": wall})
        for pose in poses.POSES
        for wall in scenes.BACKDROPS
    }
    assert 0.04 < np.mean(list(pairs.values())) < 0.06
    assert sorted(pair for pair, out in pairs.items() if out)[:3] == [
        ("arms crossed", "coral"),
        ("arms raised", "cream"),
        ("arms raised", "sky blue"),
    ]
    assert not scenes.is_held_out({"pose": None, "background": "white"})
    assert not scenes.is_held_out({"pose": "free", "background": "white"})


# ---------------------------------------------------------------- captions


def captions_of(shown):
    """A good many captions of one scene, drawn anew."""
    rng = np.random.default_rng(shown.facts["seed"])
    return [text for _ in range(8) for text in scene_words.captions(shown.facts, rng)]


def told(text, words):
    """Those of the words that the text contains, the longer ones first and each stretch read once."""
    found = []
    for word in sorted(words, key=len, reverse=True):
        if re.search(rf"\b{word}\b", text):
            found.append(word)
            text = re.sub(rf"\b{word}\b", "#", text)
    return found


def test_captions_name_only_colours_that_are_there(many):
    plain = set(COLOURS) | set(scenes.BACKDROPS)
    everything = plain | {way for ways in scene_words.SPELLINGS.values() for way in ways}
    for shown in many:
        facts = shown.facts
        true = {
            facts["floor"],
            facts["background"],
            facts["top"],
            *facts["person"].values(),
            *(thing["colour"] for thing in facts["things"]),
        } - {None}
        true |= {way for name in true for way in scene_words.SPELLINGS.get(name, ())}
        for text in captions_of(shown):
            assert set(told(text, everything)) <= true, text


def test_captions_name_only_things_that_are_there(many):
    owners = {}
    for name, nouns in scene_words.NOUNS.items():
        for noun in nouns:
            owners.setdefault(noun, set()).add(name)
    for shown in many:
        names = {thing["name"] for thing in shown.facts["things"]}
        for text in captions_of(shown):
            for noun in told(text, owners):
                assert owners[noun] & names, (text, names)


def test_captions_tell_the_pose(many):
    doing = {words: pose for pose, ways in scene_words.DOING.items() for words in ways}
    for shown in many:
        for text in captions_of(shown) if shown.keypoints is not None else []:
            named = {doing[words] for words in told(text, doing)}
            assert shown.facts["pose"] in named, text


def test_left_and_right_of_captions_hold_in_the_picture(many):
    checked = 0
    for shown in many:
        for i, relation, j in shown.facts["relations"]:
            middles = [np.nonzero(shown.mask == k + 1)[1].mean() for k in (i, j)]
            if "left" in relation or "right" in relation:
                checked += 1
                assert (middles[0] < middles[1]) == ("left" in relation), shown.facts["seed"]
        if shown.keypoints is not None and shown.facts["pose"] != "lying down":
            for text in captions_of(shown):
                for side, sign in (("left", -1), ("right", 1)):
                    if re.search(rf"(turned( to the)?|facing) {side}\b", text):
                        assert sign * shown.facts["turn"] > 0, text
    assert checked > 10


def test_front_behind_and_on_top_hold_in_the_picture():
    checked, wanted = set(), {"on top of", "in front of", "behind", "to the left of", "to the right of"}
    for seed in range(80):
        if wanted <= checked:
            break
        shown = scene(seed, size=48, kind="objects")
        for i, relation, j in shown.facts["relations"]:
            first, second = (shown.facts["things"][k]["box"] for k in (i, j))
            if relation == "on top of":
                assert first[1] < second[1], seed
            elif relation in ("in front of", "behind"):
                depths = [np.median(shown.depth[shown.mask == k + 1]) for k in (i, j)]
                assert (depths[0] < depths[1]) == (relation == "in front of"), seed
            checked.add(relation)
    assert wanted <= checked


def test_a_figure_turned_right_looks_right_in_the_picture():
    shown = next(
        s
        for s in (scene(seed, size=64, kind="figure", pose="walking") for seed in range(40))
        if 30 < s.facts["turn"] < 100
    )
    nose, ears = shown.keypoints[0, 0], shown.keypoints[16:, 0].mean()
    assert nose > ears


def test_long_captions_are_long_and_fit_the_text_encoder(many):
    lengths = np.array([[scene_words.pieces(text) for text in shown.captions] for shown in many])
    assert lengths.max() <= scene_words.LONGEST
    means = lengths.mean(0)
    assert means[0] > means[1] + 5 > means[2] + 10
    assert sum(scene_words.WEIGHTS) == pytest.approx(1)


def test_articles():
    assert scene_words.article("orange ball") == "an orange ball"
    assert scene_words.article("red ball") == "a red ball"
