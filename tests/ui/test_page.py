"""The page as gradio sees it: what is there, what is offered, what stays off the wire."""

import re
from collections import Counter
from pathlib import Path

import pytest

from modules.settings import Settings
from modules.tasks import KINDS
from modules.ui import build, launch_options, theme
from tests.ui.fake import CONTROLLED, Card, FakeEngine

UI = Path(__file__).parents[2] / "modules" / "ui"


@pytest.fixture(scope="module")
def blocks():
    return build(FakeEngine(), Settings())


@pytest.fixture(scope="module")
def controlled():
    """The page of a model with ControlNets."""
    return build(FakeEngine(catalog={"pocket": CONTROLLED}), Settings())


def components(blocks, kind):
    return [block for block in blocks.blocks.values() if block.get_block_name() == kind]


def test_only_tabs_that_a_model_can_serve_are_there(blocks):
    assert [tab.label for tab in components(blocks, "tabitem")] == ["Text", "Class", "Inpaint", "Image"]
    alone = build(FakeEngine(catalog={"pocket": Card(tasks=("text_to_image",))}), Settings())
    assert [tab.label for tab in components(alone, "tabitem")] == ["Text"]


def test_the_controlnet_tab_is_there_where_a_model_has_controlnets(controlled):
    assert [tab.label for tab in components(controlled, "tabitem")] == [
        "Text",
        "Class",
        "ControlNet",
        "Inpaint",
        "Image",
    ]


@pytest.mark.parametrize("page", ["blocks", "controlled"])
def test_at_most_five_controls_are_visible_in_a_tab(page, request):
    for tab in components(request.getfixturevalue(page), "tabitem"):
        seen, waiting = [], list(tab.children)
        while waiting:
            block = waiting.pop()
            if block.get_block_name() != "accordion" or block.open:  # what is folded away is not seen
                waiting += getattr(block, "children", [])
            controls = ("textbox", "slider", "dropdown", "button", "checkbox", "radio", "number")
            if block.get_block_name() in controls and block.visible:
                seen.append(block.label if hasattr(block, "label") else block.value)
        assert len(seen) <= 5, seen


@pytest.mark.parametrize("page", ["blocks", "controlled"])
def test_one_listener_an_event(page, request):
    blocks = request.getfixturevalue(page)
    listeners = [fn for fn in blocks.fns.values() if not fn.cancels]  # gradio stops a run by one of its own
    # A target without a component is a `.then`: a next part of the same answer, not a second listener.
    heard = Counter(target for fn in listeners for target in fn.targets if target[0] is not None)
    assert [target for target, count in heard.items() if count > 1] == []


def test_in_a_classroom_there_are_words_and_classes_and_nothing_to_upload():
    engine = FakeEngine(settings=Settings(classroom=True))
    blocks = build(engine, engine.settings)
    assert [tab.label for tab in components(blocks, "tabitem")] == ["Text", "Class"]
    hidden = [block.elem_id for block in blocks.blocks.values() if not getattr(block, "visible", True)]
    assert {"restore", "negative_prompt", "explore"} <= set(hidden)
    assert [block.elem_id for block in components(blocks, "uploadbutton") if block.visible] == []


def test_every_generating_event_shares_one_slot(blocks):
    generating = [fn for fn in blocks.fns.values() if fn.concurrency_id == "gpu"]
    assert len(generating) == len(KINDS) + 1  # and a replay
    assert all(fn.types_generator or fn.api_name for fn in generating)


def test_where_a_gpu_is_lent_for_one_call_the_press_itself_paints():
    blocks = build(FakeEngine(), Settings(where="zerogpu"))
    assert len([fn for fn in blocks.fns.values() if fn.concurrency_id == "gpu"]) == 4 + len(KINDS) + 1
    assert [button.value for button in components(blocks, "button")].count("Cancel") == 4
    functions = [fn.__name__ for one in components(blocks, "html") for fn in one.server_fns]
    assert "look_at_jobs" not in functions
    assert "find_pictures" in functions


def test_the_named_endpoints_are_the_public_ones(blocks):
    public = {fn.api_name for fn in blocks.fns.values() if fn.api_visibility == "public"}
    kinds = {"text_to_image", "class_conditional", "controlnet", "inpaint", "image_to_image", "instruct_edit"}
    assert public == kinds | {"snr_curve", "models", "submit", "job", "cancel", "replay", "compare", "script"}


def test_the_sheet_and_the_scripts_ask_nothing_of_any_other_machine():
    for path in UI.rglob("*"):
        if path.suffix in (".css", ".js", ".html", ".py"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|@import|\burl\(", text), path


def test_nothing_of_a_run_stays_in_the_browser():
    options = launch_options(Settings())
    assert options["run_history"] is False
    assert options["ssr_mode"] is False
    assert options["theme"]._stylesheets == []


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [":root", ".dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(mode):
    block = re.search(re.escape(mode) + r" \{(.*?)\}", theme.css(), re.S).group(1)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for text in ("ink", "ink-soft", "accent", "second"):
        for ground in ("paper", "surface"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for ground in ("accent-wash", "sunken"):
        assert contrast(colours["ink"], colours[ground]) >= 4.5
        assert contrast(colours["ink-soft"], colours[ground]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent-strong"]) >= 4.5
