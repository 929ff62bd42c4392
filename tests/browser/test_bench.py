"""The bench of the page weighs what the browser really fetched, and sees what it really drew."""

import sys

import pytest

from modules.bench import browser

pytestmark = pytest.mark.browser


def test_the_page_is_weighed_and_a_first_preview_seen(chromium, address):
    found = browser.weigh(chromium, address)
    assert found["requests"] > 5
    assert found["kilobytes"] > 50
    assert found["seconds_until_drawn"] > 0
    assert browser.first_preview(chromium, address, 1) > 0


def test_a_redraw_is_timed_from_the_change_of_every_control(chromium, address):
    taken = browser.redrawn(chromium, address, 1)
    assert [what for _, what in taken] == [what for what, _ in browser.CHANGES]
    assert all(0 < seconds < 60 for seconds, _ in taken)


def test_without_a_browser_a_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert browser.redraws("pocket", 1) == {}
    assert "not timed. A browser needs playwright" in capsys.readouterr().out
