"""Toyland tells the truth: colours are what they are called, places are where they are said to be."""

import json

import numpy as np
import pytest

from modules.training.toyland import captions, colours, compose
from modules.training.toyland.emoji import CLASS_NAMES, CLASSES


@pytest.fixture(scope="module")
def toyland(tmp_path_factory):
    """A Toyland of six discs: three things in two styles, yellow, blue and grey."""
    folder = tmp_path_factory.mktemp("toyland")
    y, x = np.mgrid[0:256, 0:256] - 127.5
    disc = (x**2 + y**2 < 110**2)[..., None]
    rows, pixels = [], []
    for label, colour in (("star", (250, 200, 40)), ("droplet", (40, 110, 230)), ("rock", (128, 128, 128))):
        for style in ("3d", "flat", "cartoon", "line"):
            ink = (0, 0, 0) if style == "line" else colour
            pixels.append(
                np.concatenate(
                    [np.broadcast_to(np.array(ink, np.uint8), (256, 256, 3)), disc * np.uint8(255)], -1
                )
            )
            rows.append({"code": label, "label": label, "names": [label], "group": "object", "style": style})
    np.save(folder / "icons.npy", np.stack(pixels))
    (folder / "icons.json").write_text(json.dumps(rows))
    return compose.Toyland(folder)


def test_coats_are_measured(toyland):
    words = {
        row["label"]: coat.word
        for row, coat in zip(toyland.rows, toyland.coats, strict=True)
        if row["style"] == "flat"
    }
    assert words == {"star": "yellow", "droplet": "blue", "rock": None}


@pytest.mark.parametrize(
    "word", [w for w, paint in colours.PAINTS.items() if paint[0] is not None and w != "brown"]
)
def test_repainted_things_wear_the_colour_named(toyland, word):
    row = next(i for i, r in enumerate(toyland.rows) if r["label"] == "droplet" and r["style"] == "flat")
    painted = colours.repaint(np.asarray(toyland.pixels[row]), toyland.coats[row], word)
    assert colours.coat(painted).word == word


def test_the_same_seed_draws_the_same_picture_and_caption(toyland):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        composition = toyland.compose(rng)
        return toyland.render(composition), captions.describe(composition, rng)

    (a, said_a), (b, said_b) = drawn(3), drawn(3)
    assert said_a == said_b
    assert np.array_equal(a, b)
    assert any(drawn(seed)[1] != said_a for seed in range(4, 8))


def test_nothing_held_out_is_ever_drawn(toyland):
    rng = np.random.default_rng(0)
    compositions = [toyland.compose(rng) for _ in range(600)]
    assert not any(compose.is_held_out(c) for c in compositions)
    raw = [toyland._compose(np.random.default_rng(i), False) for i in range(600)]
    held = sum(compose.is_held_out(c) for c in raw) / len(raw)
    assert 0 < held < 0.5  # there is something to keep, so the check above can fail


def centre_of(picture, ground):
    away = np.abs(picture.astype(float) - np.array(compose.GROUNDS[ground])).sum(-1) > 90
    y, x = np.nonzero(away)
    return x.mean() / 256, y.mean() / 256


def test_places_and_relations_are_where_captions_say(toyland):
    rng, seen = np.random.default_rng(2), set()
    for _ in range(800):
        c = toyland.compose(rng)
        said = captions.describe(c, rng, "long").lower()
        if c.layout == "pair" and (
            "left of" in said or "right of" in said or " above" in said or "below" in said
        ):
            first, second = c.items
            axis = 0 if c.relation in ("left of", "right of") else 1
            smaller = c.relation in ("left of", "above")
            assert (first.centre[axis] < second.centre[axis]) == smaller
            seen.add(c.relation)
        if (
            c.layout == "single"
            and "top left corner" in said
            and c.ground not in ("yellow", "blue", "gray")
            and not c.graded
        ):
            x, y = centre_of(toyland.render(c), c.ground)
            assert x < 0.4
            assert y < 0.4
            seen.add("corner")
        if c.layout == "count":
            assert ("two " in said) == (len(c.items) == 2)
            assert ("three " in said) == (len(c.items) == 3)
    assert seen == {"left of", "right of", "above", "below", "corner"}


def test_every_style_but_3d_is_always_named(toyland):
    rng = np.random.default_rng(5)
    words = {"flat": ("flat",), "cartoon": ("cartoon",), "line": ("silhouette", "line")}
    for _ in range(300):
        c = toyland.compose(rng)
        said = captions.describe(c, rng).lower()
        if c.style in words:
            assert any(word in said for word in words[c.style]), said


def test_what_is_unusual_is_always_told(toyland):
    rng, sizes = np.random.default_rng(6), {"small": ("small", "little"), "tiny": ("tiny",)}
    plain = 0
    for _ in range(600):
        c = toyland.compose(rng)
        said = captions.describe(c, rng).lower()
        assert all(str(item.colour) in said for item in c.items if item.repainted), said
        if c.layout == "single":
            assert c.size not in sizes or any(word in said for word in sizes[c.size]), said
            assert c.place == "in the center" or c.place in said, said
        plain += compose.is_plain(c)
    assert plain > 50


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("mouse face", "mouse faces"),
        ("cherry", "cherries"),
        ("box", "boxes"),
        ("face with tears", "faces with tears"),
        ("bus", "buses"),
    ],
)
def test_plurals(one, many):
    assert captions.plural(one) == many


def test_classes_are_many_and_have_names_of_their_own():
    assert len(CLASSES) == len(set(CLASSES)) >= 100
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(CLASSES)
