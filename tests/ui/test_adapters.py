"""LoRAs, embeddings and image prompts on the page: there only where they can be used, and plain to write."""

import pytest

from modules.settings import Settings
from modules.tasks import TextToImage
from modules.ui import build
from modules.ui.adapters import added
from modules.ui.forms import Form
from modules.ui.page import Page
from modules.ui.recipes import fill
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine

OFFERS = [("soft (LoRA)", "<lora:soft:1>"), ("moody (embedding)", "moody")]


@pytest.mark.parametrize(
    ("prompt", "words", "after"),
    [
        ("", "<lora:soft:1>", "<lora:soft:1>"),
        ("a cat ", "<lora:soft:1>", "a cat <lora:soft:1>"),
        ("a cat", "moody", "a cat, moody"),
        ("a cat,", "moody", "a cat, moody"),
        ("\n", "moody", "moody"),
    ],
)
def test_worked_examples(prompt, words, after):
    assert added(prompt, words) == after


def ids(blocks):
    return {getattr(block, "elem_id", None) for block in blocks.blocks.values()}


def test_nothing_of_it_where_there_is_nothing():
    assert not {"adapters", "image-prompt-fold"} & ids(build(FakeEngine(), Settings()))


def test_what_is_chosen_is_written_into_the_open_tab_s_prompt():
    blocks = build(FakeEngine(wearable=OFFERS), Settings())
    assert "image-prompt-fold" not in ids(blocks)
    (add,) = [fn for fn in blocks.fns.values() if getattr(fn.fn, "__name__", "") == "add"]
    chooser, _, *prompts = add.inputs
    assert chooser.choices == OFFERS
    texts = [f"words {i}" for i, _ in enumerate(prompts)]
    answer = add.fn("<lora:soft:1>", "class_conditional", *texts)
    (box,) = [part for part in answer if part is not chooser]
    assert (box.elem_id, answer[box], answer[chooser]) == ("class-prompt", "words 1 <lora:soft:1>", None)


def test_an_image_prompt_is_a_field_of_every_tab_and_no_recipe_keeps_it():
    page = Page(FakeEngine(sighted=True))
    with gr.Blocks() as blocks:
        page.assemble(blocks)
    assert all({"image_prompt", "image_prompt_scale"} <= form.fields.keys() for form in page.forms.values())
    form: Form = page.forms["text_to_image"]
    recipe = TextToImage(prompt="a cat", image_prompt_scale=3.0).scalars()
    updates, left = fill(page.engine, form, recipe)
    assert updates[form.fields["image_prompt_scale"]]["value"] == 3.0
    assert left == []
    _, left = fill(page.engine, form, recipe | {"adapters": [{"kind": "ip_adapter"}]})
    assert left == ["image prompt (a recipe keeps no pictures)"]
