"""Whether maps are obeyed is judged by what is seen in pictures; of true pictures the measures say so."""

import numpy as np
import pytest

from modules.conditions.control import recognise
from modules.training import obedience
from modules.training.sight import nearness
from modules.training.toyland.scenes import scene


@pytest.fixture(scope="module")
def figures():
    return [one for one in map(scene, range(12)) if one.keypoints is not None][:3]


@pytest.mark.parametrize("kind", obedience.MAPS)
def test_every_request_carries_a_map_of_its_kind_and_the_caption(kind, figures):
    for i, (task, one) in enumerate(zip(obedience.asked("some-model", kind, figures), figures)):
        assert recognise(task.control_image) == kind
        assert (task.prompt, task.seed, task.model) == (one.captions[1], i, "some-model")


def test_perfect_readings_score_one_and_other_pictures_less(figures, monkeypatch):
    people = [tuple(map(tuple, one.keypoints[:, :2] / 256)) for one in figures]
    truth = np.stack([nearness(one.depth) for one in figures])
    pictures = [np.full((8, 8, 3), i, np.uint8) for i in range(3)]
    others = [pictures[i] for i in (1, 2, 0)]

    def number(picture):
        return picture.getpixel((0, 0))[0]

    monkeypatch.setattr(obedience, "sight", lambda: None)
    monkeypatch.setattr(obedience, "posture", lambda: None)
    monkeypatch.setattr(obedience, "people_in", lambda picture: (people[number(picture)],))
    monkeypatch.setattr(obedience, "stance", lambda _, given: [people[number(one)] for one in given])
    monkeypatch.setattr(obedience, "seen", lambda _, given: truth[[number(one) for one in given]])
    for measured in (*obedience.SCORES["pose"].values(), *obedience.SCORES["depth"].values()):
        assert measured(pictures, figures) == 1
        assert measured(others, figures) < 0.99


def test_a_picture_with_nobody_in_it_scores_nothing_by_blazepose(figures, monkeypatch):
    monkeypatch.setattr(obedience, "people_in", lambda picture: ())
    assert obedience.pose_score_by_blazepose([np.zeros((8, 8, 3), np.uint8)] * 3, figures) == 0


def test_colours_are_counted_by_what_has_them(figures):
    true = obedience.colours_score([one.image for one in figures], figures)
    assert true["all"] > 0.8
    assert true["colours"] >= 3
    grey = obedience.colours_score([np.full((256, 256, 3), 130, np.uint8)] * 3, figures)
    assert grey["all"] < 0.5


def test_depth_is_judged_where_things_stand_and_a_little_around(figures):
    for one in figures:
        about = obedience.about_things(one.mask, 32)
        y, x = np.argwhere(one.mask > 0).mean(0).astype(int) // 8
        assert about[y - 1 : y + 2, x - 1 : x + 2].any()
        assert 0.05 < about.mean() < 0.8
        assert not about[0, 0]
