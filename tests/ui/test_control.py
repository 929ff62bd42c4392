"""The ControlNet tab's answers: the map that the network will see, or a sentence, and never a stale one."""

import json

import numpy as np
import pytest
from PIL import Image

from modules.conditions import pose
from modules.conditions.depth import SHAPES, depth_map
from modules.tasks import Controlled
from modules.ui import gallery, recipes, second_map
from modules.ui.forms import Form
from modules.ui.tabs import control
from modules.ui.toolkit import gr
from tests.ui.fake import CONTROLLED, FakeEngine

POSES = pose.named_poses()
ASKED = {"control_type": "pose", "detect": "auto", "width": 128, "height": 192}


@pytest.fixture
def engine():
    return FakeEngine(catalog={"pocket": CONTROLLED})


@pytest.fixture
def files(tmp_path):
    """A skeleton, a depth map and noise, as files."""
    speckle = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    slope = depth_map(np.linspace(1, 3, 128)[:, None].repeat(96, 1))
    pictures = {"skeleton": pose.draw([POSES["waving"]], 256, 256), "depth": slope}
    for name, picture in (pictures | {"photo": Image.fromarray(speckle)}).items():
        picture.save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("hello")
    return {path.stem: str(path) for path in tmp_path.iterdir()}


def pixels(source):
    with Image.open(source if isinstance(source, str) else source["path"]) as picture:
        return np.asarray(picture.convert("RGB"))


def test_people_become_exactly_the_map_that_the_engine_draws(engine):
    people = [POSES["standing"], (None, *POSES["waving"][1:])]
    message, path = control.answered(engine, {}, None, ASKED, {"people": people, "mark": 3})
    drawn = np.asarray(pose.draw(people, 128, 192))
    assert np.array_equal(pixels(path), drawn)
    assert np.array_equal(pixels(message["map"]), drawn)
    task = Controlled(**ASKED, control_image=path)
    assert np.array_equal(np.asarray(engine.control_map(task).picture), drawn)
    assert (message["drawn"], message["mark"], len(message["people"])) == (True, 3, 2)
    assert pose.from_json(message["json"])[1][0] is None


def test_another_size_draws_the_same_people_anew(engine):
    message, _ = control.answered(engine, {}, None, ASKED, {"people": [POSES["running"]]})
    again, path = control.answered(engine, message, None, ASKED | {"width": 256}, {})
    assert np.array_equal(pixels(path), np.asarray(pose.draw([POSES["running"]], 256, 192)))
    assert again["mark"] is None


def test_a_picture_sent_in_is_recognised_and_stays_through_a_change_of_size(engine, files):
    message, path = control.answered(engine, {}, files["skeleton"], ASKED, {"source": "upload"})
    assert "a drawn skeleton: it is the map, as it is" in message["told"]
    assert (path, message["drawn"]) == (files["skeleton"], False)
    assert pixels(message["map"]).shape == (192, 128, 3)
    again, path = control.answered(engine, message, files["skeleton"], ASKED | {"width": 192}, {})
    assert path == files["skeleton"]
    assert pixels(again["map"]).shape == (192, 192, 3)
    back, path = control.answered(engine, again, files["skeleton"], ASKED, {"source": "editor", "people": []})
    assert (back["source"], path) == ("editor", None)


@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [
        ("pose", "photo", "found nobody"),
        ("pose", "depth", "is a depth map, which is no pose map"),
        ("depth", "skeleton", "which is no depth map"),
        ("depth", "text", "is not a picture"),
    ],
)
def test_what_gives_no_map_is_a_sentence_and_no_picture(kind, file, words, engine, files):
    asked = ASKED | {"control_type": kind}
    message, path = control.answered(engine, {}, files[file], asked, {"source": "upload"})
    assert words in message["told"]
    assert (path, message["refused"], "map" in message) == (None, True, False)


def test_a_depth_map_is_taken_and_edges_are_read_out_of_any_picture(engine, files):
    for kind, file in (("depth", "depth"), ("canny", "photo")):
        asked = ASKED | {"control_type": kind}
        message, path = control.answered(engine, {}, files[file], asked, {"source": "upload"})
        assert path == files[file]
        assert message["map"]["orig_name"] == f"{kind}-map.png"


def test_nothing_yet_says_what_is_wanted(engine):
    assert (
        "near is white"
        in control.answered(engine, {}, None, ASKED | {"control_type": "depth"}, {})[0]["told"]
    )
    empty = {"people": []}
    assert "choose a pose" in control.answered(engine, {}, None, ASKED, empty)[0]["told"]


@pytest.mark.parametrize("sent", [{"json": "{"}, {"people": "all"}, {"people": [[1]]}])
def test_odd_json_and_odd_people_are_sentences(sent, engine):
    message, path = control.answered(engine, {"people": []}, None, ASKED, sent)
    assert message["refused"]
    assert path is None


def test_json_goes_in(engine):
    sent = {"json": json.dumps({"people": [POSES["bowing"]]})}
    message, path = control.answered(engine, {}, None, ASKED, sent)
    assert path is not None
    assert message["people"] == (POSES["bowing"],)


def test_a_recipe_says_that_the_map_is_not_in_it(engine):
    with gr.Blocks():
        form = Form.of(Controlled, control.fields(engine))
    assert "editor" not in form.fields
    values = Controlled(control_type="depth", control_scale=0.5).scalars()
    updates, left = recipes.fill(engine, form, values)
    assert left == ["control map (a recipe keeps no pictures)"]
    _, left = recipes.fill(engine, form, values | {"control_type_2": "depth"})
    assert left[-1] == "second control map (a recipe keeps no pictures)"
    assert updates[form.fields["control_type"]]["value"] == "depth"
    assert (
        "control normal (not with this model)"
        in recipes.fill(engine, form, values | {"control_type": "normal"})[1]
    )


def test_a_second_map_is_shown_as_the_network_sees_it_or_says_why_not(engine, files):
    asked = {name: ASKED[name] for name in ("detect", "width", "height")}
    assert second_map.seen(engine, "", files["depth"], asked) == (None, "")
    assert second_map.seen(engine, "depth", None, asked) == (None, second_map.WANTED)
    shown, told = second_map.seen(engine, "depth", files["depth"], asked)
    assert "depth map" in told
    assert pixels(shown).shape == (192, 128, 3)
    shown, told = second_map.seen(engine, "depth", files["skeleton"], asked)
    assert shown is None
    assert "which is no depth map" in told


def test_the_facts_name_the_control(engine):
    *_, result = engine.run(Controlled(control_image=pose.draw([POSES["waving"]], 256, 256), steps=1))
    assert ("pose", "1") in gallery.facts(result.info, 1)


def test_shapes_become_a_depth_map_that_is_recognised_as_one(engine):
    shapes = [{"kind": kind, "x": 0.2 + 0.3 * i, "y": 0.8, "size": 0.2} for i, kind in enumerate(SHAPES)]
    message, path = control.answered(engine, {}, None, ASKED | {"control_type": "depth"}, {"shapes": shapes})
    assert message["drawn"]
    task = Controlled(**ASKED | {"control_type": "depth"}, control_image=path)
    assert np.array_equal(np.asarray(engine.control_map(task).picture), pixels(message["map"]))


@pytest.mark.parametrize("shape", [7, {"kind": "cone", "x": 0, "y": 1, "size": 0.2}, {"kind": "box"}])
def test_odd_shapes_are_sentences(shape, engine):
    asked = ASKED | {"control_type": "depth"}
    message, path = control.answered(engine, {}, None, asked, {"shapes": [shape]})
    assert (message["refused"], path) == (True, None)
    assert message["told"].startswith("A shape")
