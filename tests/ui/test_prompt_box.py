"""The line under a prompt says what will be read, and no typed text becomes markup or script."""

import pytest

from modules.ui.prompt_box import choices, said
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("", ""),
        ("  \n", ""),
        ("a red apple", "<p>3 of 30 tokens</p>"),
        ("word " * 31, "<p>31 of 60 tokens, in 2 windows</p>"),
        (
            "word " * 240 + "and <b> ${x}",
            "<p>240 of 240 tokens, in 8 windows; cut: “and &lt;b&gt; &#36;&#123;x}”</p>",
        ),
        ("(:99)", '<p class="trouble">A weight in the prompt is 99; it must be from -20 to 20.</p>'),
    ],
)
def test_worked_examples(prompt, line):
    assert said(FakeEngine(), prompt, "pocket") == line


def test_a_long_rest_is_quoted_in_short():
    told = said(FakeEngine(), "word " * 300, "pocket")
    assert told.endswith("word word…”</p>")
    assert len(told) < 130


def test_where_tokens_cannot_be_counted_nothing_is_said():
    engine = FakeEngine()
    engine.count_tokens = lambda prompt, model: None
    assert said(engine, "a cat", "pocket") == ""


def test_styles_are_offered_for_the_model_s_family():
    offered = choices(FakeEngine(), "pocket")
    assert "Flat icon" in offered
    assert "Oil painting" not in offered


def pressed(blocks, *values):
    """What a press on the first Improve answers."""
    (press, *_) = [fn for fn in blocks.fns.values() if getattr(fn.fn, "__name__", "") == "improve"]
    return press.fn(*values)


@pytest.fixture(scope="module")
def blocks():
    from modules.settings import Settings
    from modules.ui import build

    return build(FakeEngine(), Settings())


def test_improve_writes_the_styles_into_the_prompt_and_undo_takes_them_back(blocks):
    after, negative, done, label = pressed(blocks, "a star", "blur", ["Flat icon"], "pocket", None)
    assert (after, negative, label) == ("a flat icon of a star", "blur", "Undo")
    assert pressed(blocks, after, negative, [], "pocket", done) == ("a star", "blur", None, "Improve")
    edited = after + ", red"
    assert pressed(blocks, edited, negative, ["Big"], "pocket", done)[0] == "a big flat icon of a star, red"


def test_improve_chooses_for_itself_and_leaves_nothing_alone(blocks):
    assert (
        pressed(blocks, "a star", "", [], "pocket", None)[0] == "a 3D render of a star on a white background"
    )
    assert pressed(blocks, " ", "", ["Flat icon"], "pocket", None) == (" ", "", None, "Improve")


def test_every_prompt_has_its_line_and_three_of_them_improve(blocks):
    found = [
        block
        for block in blocks.blocks.values()
        if "token-count" in (getattr(block, "elem_classes", None) or [])
    ]
    buttons = [
        block for block in blocks.blocks.values() if isinstance(block, gr.Button) and block.value == "Improve"
    ]
    assert (len(found), len(buttons)) == (5, 3)
