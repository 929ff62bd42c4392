"""The page by keyboard and to assistive technology: axe-core finds nothing serious, in any state of it."""

from importlib.resources import files

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
GRAVE = ("serious", "critical")


def troubles(page):
    """What axe finds that is serious: the rule, and where."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']}: {node['target']} {node['html'][:160]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def open_all(page):
    """Opens every fold of the open tab, and the drawers."""
    for fold in ("#more", "#variation", "#saving", "#explore"):
        page.click(f"{fold} > .label-wrap")
    page.click(".history summary")
    page.click(".narrow")
    page.click(".snr-table summary")


@pytest.mark.parametrize(("width", "dark"), [(1366, False), (390, True)])
def test_axe_finds_nothing_serious(visit, engine, width, dark):
    page = visit(width, 844, dark=dark)
    found = {"open": troubles(page)}
    page.fill("#prompt textarea", "a red apple")
    page.click("button.generate:visible")
    expect(page.locator(".frame")).to_have_attribute("data-phase", "running")
    found["running"] = troubles(page)
    expect(page.locator(".frame")).to_have_attribute("data-phase", "done")
    open_all(page)
    page.click(".full summary")
    expect(page.locator(".kept").first).to_be_visible()
    found["done, all open"] = troubles(page)
    for tab in () if dark else ("Class", "Inpaint", "Image"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        found[tab] = troubles(page)
    if not dark:
        page.click("button.generate:visible")  # without a picture: refused
        expect(page.locator(".status")).to_have_attribute("data-kind", "refused")
        found["refused"] = troubles(page)
    assert {state: list_ for state, list_ in found.items() if list_} == {}
