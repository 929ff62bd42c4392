"""Whether maps are obeyed is judged by what is seen in pictures; of true pictures the measures say so."""

import numpy as np
import pytest

from modules.conditions.control import recognise
from modules.training import obedience
from modules.training.sight import heat, nearness
from modules.training.toyland.scenes import BACKDROPS, scene


@pytest.fixture(scope="module")
def figures():
    return [one for one in map(scene, range(12)) if one.keypoints is not None][:3]


@pytest.mark.parametrize("kind", obedience.MAPS)
def test_every_request_carries_a_map_of_its_kind_and_the_caption(kind, figures):
    for i, (task, one) in enumerate(zip(obedience.asked("some-model", kind, figures), figures)):
        assert recognise(task.control_image) == kind
        assert (task.prompt, task.seed, task.model) == (one.captions[1], i, "some-model")


def test_perfect_readings_score_one_and_other_pictures_less(figures, monkeypatch):
    truth = np.stack([
        np.concatenate([heat(one.keypoints / 256), nearness(one.depth)[None]]) for one in figures
    ])  # fmt: skip
    blank = [np.zeros((8, 8, 3), np.uint8)] * 3
    monkeypatch.setattr(obedience, "sight", lambda: None)
    monkeypatch.setattr(obedience, "seen", lambda *_: truth)
    assert obedience.pose_score(blank, figures) > 0.97
    assert obedience.depth_score(blank, figures) == 1
    monkeypatch.setattr(obedience, "seen", lambda *_: truth[[1, 2, 0]])
    assert obedience.pose_score(blank, figures) < 0.9
    assert obedience.depth_score(blank, figures) < 0.99


def test_walls_are_called_by_their_own_colour():
    for word, rgb in BACKDROPS.items():
        assert obedience.backdrop_word(np.full((256, 256, 3), rgb, np.uint8)) == word
