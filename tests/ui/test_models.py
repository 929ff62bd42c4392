"""The model picker: what it lists, what an offer says, and what follows a model that is chosen."""

import dataclasses
import re

import pytest

from modules.engine.shelf import Progress
from modules.settings import Settings
from modules.tasks import Limits
from modules.ui import build, models
from tests.ui.fake import CLASSES, Card, FakeEngine

LARGE = Card(
    id="large", title="Large", tasks=("text_to_image", "controlnet"), controls=("canny",),
    limits={"width": Limits(512, 1024, 64)},
    defaults={"width": 1024, "steps": 4, "sampler": "LCM", "schedule": "default", "guidance_scale": 8.0},
)  # fmt: skip
AFAR = Card(
    id="afar", title="Afar", hub="a/b", licence="MIT", download=2.1, memory={"float16": 3},
    tasks=("inpaint",),
)  # fmt: skip


@pytest.fixture
def engine(tmp_path):
    return FakeEngine(catalog={"pocket": Card(), "large": LARGE, "afar": afar_in(tmp_path)})


def afar_in(folder):
    return dataclasses.replace(AFAR, folder=folder / "afar")


def heard(blocks, event, id):
    """The function that answers an event of the component with this id, and its outputs."""
    for fn in blocks.fns.values():
        for target, name in fn.targets:
            if name == event and target is not None and blocks.blocks[target].elem_id == id:
                return fn
    raise AssertionError((event, id))


def told(blocks, fn, *sent):
    """What an answer sets: {elem_id: update}."""
    answers = fn.fn(*sent)
    return {getattr(part, "elem_id", None) or type(part).__name__: value for part, value in answers.items()}


def test_what_is_here_comes_first_and_the_rest_has_a_size(engine):
    assert models.listed(engine) == [
        ("Pocket (a stand-in)", "pocket"), ("Large", "large"), ("Afar (download, 2.1 GB)", "afar"),
    ]  # fmt: skip


def test_with_pocket_alone_and_visitors_there_is_nothing_to_pick(tmp_path):
    engine = FakeEngine()
    engine.shelf.locked = True
    assert len(models.listed(engine)) == 1
    (picker,) = [part for part in build(engine, Settings()).blocks.values() if part.elem_id == "model"]
    assert picker.visible is False


def changed(blocks, name, before):
    """What the page answers to a model's name in the list, all else as it was drawn."""
    fn = heard(blocks, "change", "model")
    values = [getattr(part, "value", None) for part in fn.inputs[2:]]
    return told(blocks, fn, name, before, *values)


def test_choosing_a_model_that_is_here_brings_what_suits_it(engine):
    blocks = build(engine, Settings())
    answer = changed(blocks, "large", "pocket")
    width = {"minimum": 512, "maximum": 1024, "step": 64, "value": 1024}
    assert answer["width"].items() >= width.items()
    assert answer["steps"]["value"] == 4
    assert answer["sampler"]["value"] == "LCM"
    assert answer["schedule"]["choices"] == ["default"]
    assert "prompt" not in answer
    assert answer["State"] == "large"
    back = changed(blocks, "pocket", "large")
    assert (back["width"]["value"], back["steps"]["value"], back["guidance_scale"]["value"]) == (256, 20, 5.0)


def test_a_recipe_that_brought_its_model_keeps_its_values(engine):
    answer = changed(build(engine, Settings()), "large", "large")
    assert "width" not in answer
    assert "tabs-shown" in answer


def test_choosing_one_that_is_not_offers_it_and_goes_back(engine, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    blocks = build(engine, Settings())
    answer = changed(blocks, "afar", "pocket")
    assert answer["model"]["value"] == "pocket"
    for words in ("Afar is not on this machine", "2.1 GB", "under MIT", "3 GB in float16"):
        assert words in answer["model-told"]
    assert answer["model-yes"]["visible"] is True
    assert "width" not in answer
    nothing = changed(blocks, "<b>${x}</b>", "pocket")
    assert "<b>" not in nothing["model-told"]
    assert "${" not in nothing["model-told"]


def test_a_download_is_followed_and_its_model_taken_when_it_is_here(engine, monkeypatch):
    blocks = build(engine, Settings())
    begun = []
    monkeypatch.setattr(engine.shelf, "fetch", begun.append)
    engine.shelf._progress = Progress("afar", "running", "Afar: 1.00 of 2.10 GB", 10, 21)
    answer = told(blocks, heard(blocks, "click", "model-yes"), "afar")
    assert begun == ["afar"]
    assert answer["Timer"].active is True
    assert '<progress max="21" value="10">' in answer["model-told"]
    assert answer["model-no"]["value"] == "Stop"
    ticks = [fn for fn in blocks.fns.values() if any(name == "tick" for _, name in fn.targets)]
    (tick,) = [fn for fn in ticks if any(part.elem_id == "model-told" for part in fn.outputs)]
    engine.shelf._progress = Progress("afar", "failed", "The hub could not be reached.")
    assert told(blocks, tick)["model-yes"] == {
        "value": "Try again", "visible": True, "__type__": "update",
    }  # fmt: skip
    engine.shelf.here["afar"] = engine.shelf.cards["afar"]
    engine.shelf._progress = Progress("afar", "done", "Afar is here now.")
    answer = told(blocks, tick)
    assert answer["model"]["value"] == "afar"
    assert answer["Timer"].active is False
    assert "Afar is here now" in answer["model-told"]


def test_tabs_lists_and_panel_follow_the_model(engine):
    sets = changed(build(engine, Settings()), "large", "pocket")
    hidden = re.findall(r'data-tab-id="(\w+)"', sets["tabs-shown"])
    assert re.findall(r'data-to="(\w+)"', sets["tabs-shown"]) == hidden
    assert hidden == ["class_conditional", "inpaint", "image_to_image"]
    assert sets["control_type"]["choices"] == [("Edges", "canny")]
    assert sets["class_name"]["choices"] == CLASSES
    assert "train" in sets["snr"]
