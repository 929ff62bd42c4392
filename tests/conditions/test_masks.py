"""Masks against what can be counted by hand."""

import numpy as np
import pytest
from PIL import Image

from modules.conditions import masks
from modules.tasks import TaskError


def square(size: int = 21, low: int = 8, high: int = 13) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def test_white_means_repaint_and_a_mask_of_another_size_is_refused():
    picture = Image.new("L", (4, 3), 0)
    picture.putpixel((3, 1), 255)
    assert np.argwhere(masks.as_mask(picture, (4, 3))).tolist() == [[1, 3]]
    assert not masks.as_mask(None, (4, 3)).any()
    with pytest.raises(TaskError, match="mask is 4 x 3 pixels; it must have the picture's size, 3 x 4"):
        masks.as_mask(picture, (3, 4))


def test_a_pixel_grows_to_a_disc():
    dot = square(11, 5, 6)
    y, x = np.mgrid[-5:6, -5:6]
    assert (masks.grown(dot, 3) == (x**2 + y**2 <= 9)).all()
    assert (masks.grown(dot, 0) == dot).all()
    assert not masks.grown(np.zeros((4, 4), bool), 2).any()


def test_the_feather_lies_inside_the_mask():
    weights = masks.feathered(square(), 3)
    assert (weights[~square()] == 0).all()
    assert weights[10, 8:13].tolist() == [0.25, 0.5, 0.75, 0.5, 0.25]
    assert (masks.feathered(square(), 0) == square()).all()


def test_no_feather_along_the_pictures_own_border():
    mask = np.zeros((6, 6), bool)
    mask[:, 3:] = True
    assert masks.feathered(mask, 1)[2].tolist() == [0, 0, 0, 0.5, 1, 1]
    assert (masks.feathered(np.ones((3, 3), bool), 2) == 1).all()


def test_filling_keeps_the_rest_and_flows_from_near():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = (200, 100, 0)
    mask = np.zeros((40, 60), bool)
    mask[:, 20:40] = True
    filled = masks.filled(picture, mask)
    assert (filled[~mask] == picture[~mask]).all()
    reds = filled[20, 20:40, 0].astype(int)
    assert reds[0] < 30
    assert reds[-1] > 170
    assert (np.diff(reds) >= 0).all()


def test_filling_reaches_across_a_large_mask_and_an_entire_one_is_grey():
    picture = np.full((200, 200, 3), 77, np.uint8)
    mask = np.ones((200, 200), bool)
    mask[0, 0] = False
    assert (masks.filled(picture, mask) == 77).all()
    assert (masks.filled(picture, np.ones((200, 200), bool)) == 128).all()


def test_a_repainted_part_meets_its_surroundings_without_a_step():
    """A new picture that is 40 levels brighter all over: no step at the edge, its own level further in."""
    old, new = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 140, np.uint8)
    mask = square(64, 12, 52)
    out = masks.blended(old, new, masks.feathered(mask, 0), reach=4)[32, :, 0].astype(int)
    assert (out[:12] == 100).all()
    assert np.abs(np.diff(out)).max() <= 10
    assert abs(out[32] - 140) <= 1
    assert (masks.blended(old, new, np.ones((64, 64), np.float32), 4) == new).all()
    assert (masks.blended(old, new, np.zeros((64, 64), np.float32), 4) == old).all()


def test_an_equal_picture_is_laid_over_unchanged():
    old = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert (masks.blended(old, old, masks.feathered(square(40, 9, 30), 3), 5) == old).all()


def test_the_box_holds_the_mask_with_its_padding_in_the_canvas_shape():
    mask = np.zeros((100, 200), bool)
    mask[40:50, 60:80] = True
    assert masks.box_around(mask, 10, (1, 1)) == (50, 25, 90, 65)
    assert masks.box_around(mask, 0, (2, 1)) == (60, 40, 80, 50)


def test_the_box_stays_inside_the_picture():
    mask = np.zeros((100, 200), bool)
    mask[0:10, 180:200] = True
    left, top, right, bottom = masks.box_around(mask, 30, (1, 1))
    assert (top, right) == (0, 200)
    assert (right - left, bottom - top) == (50, 50)
    tall = np.zeros((20, 400), bool)
    tall[:, 100:200] = True
    assert masks.box_around(tall, 5, (1, 1)) == (95, 0, 205, 20)
