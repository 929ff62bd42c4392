"""Colours are read where the truth says that they should be, and only those that the caption names."""

import numpy as np
import pytest

from modules.training import wording
from modules.training.toyland.props import COLOURS
from modules.training.toyland.scenes import BACKDROPS, scene


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(8)]


def test_walls_and_things_are_called_by_their_own_colours():
    for word, rgb in BACKDROPS.items():
        assert wording.wall_word(np.full((256, 256, 3), rgb, np.uint8)) == word
    for word, rgb in COLOURS.items():
        assert wording.colour_word(np.full((50, 3), rgb)) == word


@pytest.mark.parametrize(
    ("caption", "colour", "said"),
    [
        ("a red ball on a white background", "red", True),
        ("a small light blue ball", "blue", False),
        ("a small light blue ball", "light blue", True),
        ("a gray ball", "grey", True),
        ("a ball on a red background", "red", False),
        ("a figure with red hair and a ball", "red", False),
    ],
)
def test_a_caption_names_a_colour_only_beside_its_thing(caption, colour, said):
    assert wording.says(caption, colour, ("ball", "sphere")) == said


def test_true_pictures_have_the_colours_that_their_captions_name(scenes):
    right = [wording.colours_right(one.image, one, one.captions[0]) for one in scenes]
    for kind in ("walls", "things", "clothes"):
        told = [there for one in right for there in one[kind]]
        assert told
        assert np.mean(told) > 0.7


def test_another_picture_has_not(scenes):
    for one in scenes:
        right = wording.colours_right(255 - one.image, one, one.captions[0])
        assert not all(there for kind in right.values() for there in kind)
