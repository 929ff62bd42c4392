"""A form's values become the Task they stand for, and a recipe goes back into the form."""

import pytest

from modules.tasks import ClassConditional, TaskError, TextToImage
from modules.ui.forms import Form, Maker, as_field
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine


@pytest.fixture
def form():
    make = Maker(FakeEngine(), TextToImage)
    with gr.Blocks():
        fields = {"prompt": make.words("prompt", "Prompt"), "steps": make.slider("steps", "Steps", reach=100)}
        return Form(TextToImage, fields | {"seed": gr.Textbox(label="Seed")})


def test_values_become_a_task_by_name(form):
    assert form.task(["a cat", 7, "12"]) == TextToImage(prompt="a cat", steps=7, seed=12)


def test_every_digit_of_a_seed_survives(form):
    assert form.task(["", 20, str(2**63 - 1)]).seed == 2**63 - 1


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_seed_means_a_new_one(form, empty):
    assert form.task(["", 20, empty]).seed == -1


@pytest.mark.parametrize("seed", ["twelve", "1.5", "0x10", "-"])
def test_a_seed_that_is_no_number_is_refused_in_words(form, seed):
    with pytest.raises(TaskError, match=r"seed is .* whole number") as refusal:
        form.task(["", 20, seed])
    assert refusal.value.field == "seed"


def test_values_out_of_limits_are_refused_not_clamped(form):
    with pytest.raises(TaskError, match="steps is 0"):
        form.task(["", 0, ""])


def test_a_cleared_box_is_the_default():
    assert as_field(ClassConditional, "class_name", None) == ""
    assert as_field(TextToImage, "steps", None) == 20


def test_sliders_take_their_limits_from_the_engine():
    with gr.Blocks():
        slider = Maker(FakeEngine(), TextToImage).slider("width", "Width")
    assert (slider.minimum, slider.maximum, slider.step, slider.value) == (128, 512, 64, 256)


def test_a_recipe_fills_the_components_that_it_names(form):
    updates = form.filled({"prompt": "a star", "seed": 2**62 + 1, "unknown": 3})
    assert updates[form.fields["prompt"]]["value"] == "a star"
    assert updates[form.fields["seed"]]["value"] == str(2**62 + 1)
    assert form.fields["steps"] not in updates
