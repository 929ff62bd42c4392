"""Keypoints are read from every dialect, and drawn as OpenPose draws them."""

import json

import numpy as np
import pytest

from modules.conditions import pose
from modules.training.toyland import poses as toyland

POSES = pose.named_poses()
STANDING = POSES["standing"]


def test_the_library_has_toylands_poses_and_its_order_of_keypoints():
    assert pose.KEYPOINTS == toyland.KEYPOINTS
    assert list(POSES) == list(toyland.POSES)
    assert all(len(person) == 18 for person in POSES.values())


def test_colours_are_those_of_openpose():
    assert pose.COLOURS[:4] == ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0))
    assert pose.COLOURS[9:13] == ((0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255))
    assert pose.COLOURS[17] == (255, 0, 85)


def test_joints_and_limbs_are_where_and_what_they_should_be():
    picture = pose.draw([STANDING], 512, 512)
    for point, colour in zip(STANDING, pose.COLOURS):
        assert picture.getpixel(tuple(round(512 * share) for share in point)) == colour
    upper_arm = [(STANDING[2][i] + STANDING[3][i]) / 2 for i in (0, 1)]  # the third limb, at 60%
    assert picture.getpixel(tuple(round(512 * share) for share in upper_arm)) == (153, 102, 0)
    assert picture.getpixel((5, 5)) == (0, 0, 0)


def test_it_is_the_skeleton_that_the_fields_own_tool_draws():
    """The limbs and joints of controlnet_aux 0.0.10, drawn by its rules with cv2."""
    cv2 = pytest.importorskip("cv2")
    theirs = np.zeros((512, 512, 3), np.uint8)
    spots = [(x * 512, y * 512) for x, y in STANDING]
    for i, (one, other) in enumerate(pose.LIMBS):
        (ax, ay), (bx, by) = spots[one], spots[other]
        angle = int(np.degrees(np.arctan2(ay - by, ax - bx)))
        middle, half = (int((ax + bx) / 2), int((ay + by) / 2)), int(np.hypot(ax - bx, ay - by) / 2)
        colour = [int(0.6 * channel) for channel in pose.COLOURS[i]]
        cv2.fillConvexPoly(theirs, cv2.ellipse2Poly(middle, (half, 4), angle, 0, 360, 1), colour)
    for colour, (x, y) in zip(pose.COLOURS, spots):
        cv2.circle(theirs, (int(x), int(y)), 4, colour, -1)
    ours = np.asarray(pose.draw([STANDING], 512, 512), int)
    assert np.abs(ours - theirs).mean() < 0.2 * theirs.mean()  # smooth outlines instead of stairs
    assert np.abs(ours.mean((0, 1)) / theirs.mean((0, 1)) - 1).max() < 0.1


def test_line_width_follows_the_size_and_absent_joints_take_their_limbs_along():
    lit = [np.asarray(pose.draw([STANDING], side, side)).any(2).mean() for side in (256, 512, 1024)]
    assert max(lit) < 1.3 * min(lit)
    headless = tuple(None if i in (0, 14, 15, 16, 17) else point for i, point in enumerate(STANDING))
    top = np.asarray(pose.draw([headless], 256, 256)).any(2).argmax(0)
    assert top[top > 0].min() > 256 * 0.2
    assert not np.asarray(pose.draw([(None,) * 18], 64, 64)).any()


def test_json_comes_back_as_it_went_out():
    people = (STANDING, (None, *POSES["waving"][1:]))
    again = pose.from_json(pose.to_json(people, 256, 384))
    assert again[1][0] is None
    for one, other in zip(people, again, strict=True):
        for point, back in zip(one, other, strict=True):
            assert back == pytest.approx(point, abs=1e-4) if point else back is None


@pytest.mark.parametrize("outer", [lambda people: people, lambda people: [people]])
def test_openposes_own_files_are_read(outer):
    flat = [number for x, y in STANDING for number in (512 * x, 768 * y, 0.9)]
    flat[2] = 0  # the nose was not seen
    given = {"people": [{"pose_keypoints_2d": flat}], "canvas_width": 512, "canvas_height": 768}
    (person,) = pose.from_json(json.dumps(outer(given)))
    assert person[0] is None
    np.testing.assert_allclose(person[1:], STANDING[1:])


def test_twenty_five_points_give_the_eighteen():
    flat = [float(i) / 100 for i in range(25) for _ in (0, 1, 2)]
    flat[2] = 1
    (person,) = pose.people_of({"people": [{"pose_keypoints_2d": flat}]})
    assert [round(point[0] * 100) for point in person] == [*range(8), *range(9, 19)]


def test_a_canvas_beside_shares_is_no_reason_to_shrink():
    given = {"people": [[list(point) for point in STANDING]], "canvas_width": 512, "canvas_height": 512}
    assert pose.people_of(given)[0] == STANDING


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "not JSON"),
        ("7", 'a list "people"'),
        ('{"persons": []}', 'a list "people"'),
        ("[[]]", "needs 18 keypoints"),
        ('[[[0, 0]], "x"]', "needs 18 keypoints"),
        (json.dumps([["here"] * 18]), "must be"),
        (json.dumps([[[True, 0]] * 18]), "must be"),
        (json.dumps([[[0, float("nan")]] * 18]), "far outside"),
        (json.dumps([[[300, 200]] * 18]), "canvas_width and canvas_height"),
        (json.dumps({"people": [[None] * 18] * 21}), "at most 20"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "18 or 25 keypoints"),
        ('{"people": [], "canvas_width": 0}', "canvas_width is 0"),
    ],
)
def test_what_is_no_pose_is_a_sentence(source, words):
    with pytest.raises(pose.PoseError, match=words) as refusal:
        pose.from_json(source)
    assert str(refusal.value).endswith(".")
