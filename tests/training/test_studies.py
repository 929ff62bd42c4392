"""The rulers that Pocket is measured with, on pictures whose measure is known."""

import numpy as np

from modules.training.studies import around, redness, seam
from modules.training.toyland.compose import Item, is_pair_held_out


def test_redness_is_the_share_of_coloured_pixels_that_are_red():
    picture = np.full((1, 40, 40, 3), 200, np.uint8)  # grey does not count
    assert redness(picture) == 0
    picture[0, :10] = (220, 30, 30)
    picture[0, 10:40, :10] = (30, 60, 220)
    assert redness(picture) == 400 / 700


def test_a_seam_is_told_from_texture():
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    texture = np.random.default_rng(0).integers(90, 110, (64, 64, 3)).astype(np.uint8)
    assert 0.9 < seam(texture, inside) < 1.1
    texture[inside] += 60
    assert seam(texture, inside) > 5


def test_a_thing_is_masked_whole():
    item = Item("apple", ("apple",), "red", False, 0, (0.5, 0.25), 0.25)
    box = around(item).getbbox()
    assert box[0] < 96 < 160 < box[2]
    assert box[1] < 32 < 96 < box[3]


def test_a_tenth_of_the_pairs_is_held_out():
    shares = [is_pair_held_out(f"thing {i}", colour) for i in range(500) for colour in ("red", "blue")]
    assert 0.07 < np.mean(shares) < 0.13
