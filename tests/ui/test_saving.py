"""What stands in the controls is saved under a name and comes back, on this machine and for nobody else."""

import pytest

from modules.engine.history import History
from modules.settings import Settings
from modules.tasks import TaskError, TextToImage
from modules.ui import build, prompt_box, saving
from modules.ui.forms import Form
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def form():
    names = ("prompt", "negative_prompt", "steps", "seed", "variation_strength", "variation_seed", "model")
    return Form(TextToImage, {name: gr.Textbox() for name in names})


def test_a_preset_holds_what_was_asked_for(engine, form):
    fields = {"prompt": "a cat", "steps": 7, "seed": -1, "variation_strength": 0.0, "variation_seed": 5}
    assert saving.kept(engine.own, "Mine", saving.PRESET, form, fields) == "Mine is among the presets now."
    preset = saving.known(engine)["Mine"]
    assert (preset.kind, preset.fields) == (
        "text_to_image",
        {"prompt": "a cat", "steps": 7, "variation_strength": 0.0},
    )
    assert saving.names(engine, {"text_to_image": None})[-1] == "Mine"
    assert "Mine" not in saving.names(engine, {"inpaint": None})
    assert set(saving.spoken(form)) == set(form.fields) - {"model"}


def test_a_style_is_offered_and_laid(engine, form):
    fields = {"prompt": "in the rain", "negative_prompt": "sun"}
    saving.kept(engine.own, "Rainy", saving.STYLE, form, fields)
    assert prompt_box.choices(engine, "pocket")[-1] == "Rainy"
    assert len(prompt_box.choices(engine, "pocket")) > 10
    laid = prompt_box.styles.apply(["Rainy"], "a cat", "", prompt_box.known(engine))
    assert laid == ("a cat, in the rain", "sun")


def test_what_cannot_be_saved_is_refused(engine, form):
    with pytest.raises(TaskError, match="ships with the studio"):
        saving.kept(engine.own, "Quick sketch", saving.PRESET, form, {"steps": 3})
    with pytest.raises(TaskError, match="steps is 0"):
        saving.kept(engine.own, "Mine", saving.PRESET, form, {"steps": 0})


@pytest.mark.parametrize("shared", [True, False])
def test_strangers_are_not_offered_it(engine, shared):
    engine.history = History(engine.history.folder, shared=shared)
    blocks = build(engine, Settings())
    buttons = [block.value for block in blocks.blocks.values() if block.get_block_name() == "button"]
    assert ("Save" in buttons) is not shared
