"""What is seen in pictures without a network, on pictures of which it is known."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from modules.training.scores import looking
from modules.training.scores.inpainting import around, seam
from modules.training.toyland.colours import FILLS, GROUNDS
from modules.training.toyland.compose import PLACES, RELATIONS, Item


def drawn(*spots, ground="white", ink="red", radius=0.2, shadow=False):
    """Discs at places in 0..1 on a ground, (256, 256, 3) uint8, with a soft shadow below each or without."""
    picture = Image.new("RGB", (256, 256), GROUNDS[ground])
    reach = radius * 256
    boxes = [(x * 256 - reach, y * 256 - reach, x * 256 + reach, y * 256 + reach) for x, y in spots]
    if shadow:
        dark = Image.new("L", picture.size, 0)
        for box in boxes:
            ImageDraw.Draw(dark).ellipse([v + 10 * (i % 2) for i, v in enumerate(box)], fill=70)
        picture.paste("black", mask=dark.filter(ImageFilter.GaussianBlur(4)))
    for box in boxes:
        ImageDraw.Draw(picture).ellipse(box, fill=FILLS[ink])
    return np.asarray(picture)


LAID = {1: [(0.5, 0.5)], 2: [(0.27, 0.5), (0.73, 0.5)], 3: [(0.5, 0.27), (0.26, 0.72), (0.74, 0.72)]}


@pytest.mark.parametrize("ground", ["white", "blue", "black"])
@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("count", LAID)
def test_things_that_stand_apart_are_counted(count, shadow, ground):
    assert len(looking.spots(drawn(*LAID[count], ground=ground, shadow=shadow))) == count


def test_an_empty_ground_holds_nothing():
    empty = drawn()
    assert looking.spots(empty) == []
    assert looking.place_word(empty) is None
    assert looking.thing_word(empty) is None
    assert looking.around([]) is None


def test_a_ground_that_fades_downwards_is_still_ground():
    ramp = np.linspace(0.7, 1, 256)[:, None, None]
    faded = (drawn((0.5, 0.5), ground="green") * ramp).astype(np.uint8)
    (spot,) = looking.spots(faded)
    assert spot.box == pytest.approx((77, 77, 179, 179), abs=4)


def test_crumbs_are_not_counted():
    picture = drawn((0.5, 0.5)).copy()
    picture[20:30, 20:30] = FILLS["red"]
    assert len(looking.spots(picture)) == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_thing_is_found_in_its_place(place):
    assert looking.place_word(drawn(PLACES[place], radius=0.12)) == place


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_are_those_that_toyland_lays(relation):
    first, second = ((0.5 + 0.24 * x, 0.5 + 0.24 * y) for x, y in RELATIONS[relation])
    one, other = (looking.spots(drawn(place, radius=0.15))[0] for place in (first, second))
    assert looking.relation_word(one, other) == relation


@pytest.mark.parametrize("ink", [word for word in FILLS if word not in ("white", "teal")])
def test_colours_are_called_by_the_words_that_made_them(ink):
    assert looking.thing_word(drawn((0.5, 0.5), ground="light blue", ink=ink)) == ink


@pytest.mark.parametrize("ground", GROUNDS)
def test_grounds_are_called_by_the_words_that_made_them(ground):
    assert looking.ground_word(drawn((0.5, 0.5), ground=ground, ink="orange")) == ground


def test_a_thing_is_cut_out_with_some_room_even_at_the_edge():
    picture = drawn((0.1, 0.5), radius=0.1)
    (spot,) = looking.spots(picture)
    held = looking.cut_out(picture, spot)
    assert held.shape[0] == held.shape[1] == pytest.approx(52 * 1.15, abs=3)
    assert (held == FILLS["red"]).all(-1).mean() == pytest.approx(np.pi / 4 / 1.15**2, abs=0.06)


def test_redness_is_the_share_of_coloured_pixels_that_are_red():
    picture = np.full((1, 40, 40, 3), 200, np.uint8)  # grey does not count
    assert looking.redness(picture) == 0
    picture[0, :10] = (220, 30, 30)
    picture[0, 10:40, :10] = (30, 60, 220)
    assert looking.redness(picture) == 400 / 700


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
