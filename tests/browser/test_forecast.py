"""The line under Generate follows the controls and learns from a run, in a real browser."""

import pytest
from playwright.sync_api import expect

from modules.engine.forecast import Forecast

pytestmark = pytest.mark.browser


def steps(page, value):
    page.fill("#steps input[type=number]", str(value))
    page.press("#steps input[type=number]", "Tab")


def test_the_line_learns_from_a_run_and_follows_the_controls(visit, engine):
    assert engine.runs == []
    page = visit()
    line = page.locator("#forecast")
    expect(line).to_contain_text("Not measured on this machine yet")
    steps(page, 10)
    page.fill("#prompt textarea", "a red apple")
    page.click("button.generate:visible")
    expect(line).to_have_text("This takes about 2 s, by what was measured here.")
    steps(page, 40)
    expect(line).to_have_text("This takes about 6 s, by what was measured here.")
    page.get_by_role("tab", name="Class").click()
    steps(page, 20)
    expect(line).to_have_text("This takes about 3 s, by what was measured here.")


def test_a_page_that_opens_later_knows_at_once(visit, engine):
    engine.runs.append(None)
    try:
        expect(visit().locator("#forecast")).to_contain_text("by what was measured here")
    finally:
        engine.runs.pop()


def test_batch_and_guidance_are_heard(visit, engine, monkeypatch):
    def told(task):
        return Forecast(seconds=100 * (task.batch_size + task.guidance_scale))

    monkeypatch.setattr(engine, "forecast", told)
    page = visit()
    line = page.locator("#forecast")
    expect(line).to_contain_text("about 10 min")
    page.fill("#guidance_scale input[type=number]", "11")
    page.press("#guidance_scale input[type=number]", "Tab")
    expect(line).to_contain_text("about 20 min")
    page.click("#more > button")
    page.fill("#batch_size input[type=number]", "7")
    page.press("#batch_size input[type=number]", "Tab")
    expect(line).to_contain_text("about 30 min")
