"""Exploring as a person meets it: a grid is described in words, fills its sheet, stops and goes on."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

GENERATE = "button.generate:visible"


def vary(page, way, what, values):
    page.click(f"#vary-{way} input")
    page.get_by_test_id("dropdown-option").filter(has_text=re.compile(rf"^\W*{what}\s*$")).click()
    page.get_by_test_id("dropdown-option").first.wait_for(state="detached")
    page.fill(f"#values-{way} input", values)


def test_a_grid_is_stopped_and_goes_on_where_it_was(visit, engine):
    page = visit()
    page.fill("#prompt textarea", "a red apple")
    page.click("#explore > .label-wrap")
    vary(page, "across", "steps", "2, 3, 40")
    expect(page.locator(GENERATE)).to_have_text("Generate 3 pictures")
    vary(page, "down", "words of the prompt, exchanged", "apple, star")
    expect(page.locator(GENERATE)).to_have_text("Generate 6 pictures")
    expect(page.locator("#grid-told")).to_have_text("6 pictures on one sheet.")
    page.click(GENERATE)
    status = page.locator(".under .status")
    expect(status).to_contain_text("picture 3 of 6")
    page.click("button.cancel:visible")
    expect(status).to_have_text("Stopped. Generate goes on from the 2 pictures that are there.")
    begun, engine.pace = len(engine.runs), 0.01
    page.click(GENERATE)
    expect(status).to_contain_text("6 pictures on one sheet")
    engine.pace = 0.15
    assert [(task.prompt, task.steps) for task in engine.runs[begun:]] == [
        *(("a red apple", 40), ("a red star", 2), ("a red star", 3), ("a red star", 40)),
    ]
    assert len({task.seed for task in engine.runs[begun - 3 :]}) == 1
    page.wait_for_function("document.querySelector('.finals img').naturalWidth > 3 * 256")
    vary(page, "across", "nothing", "")
    vary(page, "down", "nothing", "")
    expect(page.locator(GENERATE)).to_have_text("Generate")


def test_what_cannot_be_varied_is_told_before_and_at_the_press(visit):
    page = visit(390, 844)
    page.click("#explore > .label-wrap")
    vary(page, "across", "steps", "a few")
    expect(page.locator("#grid-told")).to_contain_text("steps is 'a few'; it must be a whole number.")
    page.click(GENERATE)
    expect(page.locator(".under .status")).to_contain_text("steps is 'a few'")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_settings_are_saved_under_a_name_and_come_back(visit, engine):
    page = visit()
    page.fill("#prompt textarea", "a green frog")
    for fold in ("#more", "#saving"):
        page.click(f"{fold} > .label-wrap")
    page.fill("#save-name input", "Frogs")
    page.click("#save")
    status = page.locator(".under .status")
    expect(status).to_have_text("Frogs is among the presets now.")
    page.fill("#prompt textarea", "something else")
    page.click("#preset input")
    page.get_by_test_id("dropdown-option").filter(has_text="Frogs").click()
    expect(page.locator("#prompt textarea")).to_have_value("a green frog")
    page.click("#forget")
    expect(status).to_have_text("Frogs is deleted.")
    assert engine.own.presets() == {}
