"""Whether maps are obeyed is judged by what is seen in pictures; of true pictures the measures say so."""

import numpy as np
import pytest

from modules.conditions.control import recognise
from modules.training import obedience
from modules.training.sight import nearness
from modules.training.toyland.scenes import BACKDROPS, scene


@pytest.fixture(scope="module")
def figures():
    return [one for one in map(scene, range(12)) if one.keypoints is not None][:3]


@pytest.mark.parametrize("kind", obedience.MAPS)
def test_every_request_carries_a_map_of_its_kind_and_the_caption(kind, figures):
    for i, (task, one) in enumerate(zip(obedience.asked("some-model", kind, figures), figures)):
        assert recognise(task.control_image) == kind
        assert (task.prompt, task.seed, task.model) == (one.captions[1], i, "some-model")


def test_pck_counts_visible_joints_within_a_tenth_of_the_figure():
    true = np.array([[0.5, 0.2, 1], [0.5, 0.7, 1], [0.4, 0.5, 0]])  # half a picture high: a tenth is 0.05
    assert list(obedience.pck(((0.54, 0.2), (0.5, 0.76), None), true)) == [True, False]
    assert list(obedience.pck((None, (0.5, 0.7), None), true)) == [False, True]


def test_perfect_readings_score_one_and_other_pictures_less(figures, monkeypatch):
    people = [tuple(map(tuple, one.keypoints[:, :2] / 256)) for one in figures]
    truth = np.stack([nearness(one.depth) for one in figures])
    pictures = [np.full((8, 8, 3), i, np.uint8) for i in range(3)]
    others = [pictures[i] for i in (1, 2, 0)]
    monkeypatch.setattr(obedience, "sight", lambda: None)
    monkeypatch.setattr(obedience, "people_in", lambda picture: (people[picture.getpixel((0, 0))[0]],))
    monkeypatch.setattr(
        obedience, "seen", lambda _, given: truth[[picture.getpixel((0, 0))[0] for picture in given]]
    )
    assert obedience.pose_score(pictures, figures) == 1
    assert obedience.depth_score(pictures, figures) == 1
    assert obedience.pose_score(others, figures) < 0.9
    assert obedience.depth_score(others, figures) < 0.99


def test_a_picture_with_nobody_in_it_scores_nothing(figures, monkeypatch):
    monkeypatch.setattr(obedience, "people_in", lambda picture: ())
    assert obedience.pose_score([np.zeros((8, 8, 3), np.uint8)] * 3, figures) == 0


def test_walls_are_called_by_their_own_colour():
    for word, rgb in BACKDROPS.items():
        assert obedience.backdrop_word(np.full((256, 256, 3), rgb, np.uint8)) == word
