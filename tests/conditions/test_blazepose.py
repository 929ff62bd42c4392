"""Poses read from pictures whose truth is known: rendered figures, none, and two beside each other."""

import json
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from modules.conditions import blazepose
from modules.conditions.pose import KEYPOINTS
from modules.training.obedience import pck
from modules.training.toyland.scenes import scene

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert has no wheel for this machine")


@pytest.fixture(scope="module")
def figures():
    return [one for one in map(scene, (1, 6, 8)) if one.keypoints is not None]


def test_the_joints_of_rendered_figures_are_found(figures):
    for one in figures:
        (person,) = blazepose.people_in(Image.fromarray(one.image))
        assert pck(person, one.keypoints / 256).mean() > 0.75


def test_right_is_the_persons_own_right(figures):
    (person,) = blazepose.people_in(Image.fromarray(figures[0].image))
    named = dict(zip(KEYPOINTS, person))
    true = dict(zip(KEYPOINTS, figures[0].keypoints / 256))
    way = true["right_shoulder"][0] - true["left_shoulder"][0]
    assert (named["right_shoulder"][0] - named["left_shoulder"][0]) * way > 0


def test_two_people_side_by_side_are_two(figures):
    both = Image.fromarray(np.concatenate([one.image for one in figures[1:]], axis=1))
    people = blazepose.people_in(both)
    assert len(people) == 2
    assert {round(person[0][0]) for person in people} == {0, 1}  # a nose in each half


@pytest.mark.parametrize("size", [(64, 64), (500, 30)])
def test_an_empty_picture_has_nobody(size):
    assert blazepose.people_in(Image.new("RGB", size, "teal")) == ()


def test_a_frame_cuts_what_it_says():
    """The middle of the square is its centre, and a turn by a right angle turns the picture."""
    grid = np.mgrid[0:64, 0:64].astype(np.uint8)
    picture = Image.fromarray(np.stack([grid[1], grid[0], 0 * grid[0]], -1))
    for turn in (0.0, np.pi / 2):
        frame = blazepose.Frame(30.0, 20.0, 16.0, turn)
        cut = np.asarray(frame.cut(picture))
        for u, v in ((-0.25, 0.25), (0.0, 0.0), (0.25, 0.0)):
            x, y = frame.at(u, v)
            seen = cut[int((v + 0.5) * blazepose.CROP), int((u + 0.5) * blazepose.CROP)]
            assert seen[:2] == pytest.approx((x - 0.5, y - 0.5), abs=1.1)


def test_the_files_are_those_of_the_manifest():
    manifest = json.loads((blazepose.FOLDER / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert sha256((blazepose.FOLDER / name).read_bytes()).hexdigest() == entry["sha256"]
