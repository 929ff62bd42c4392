"""A real Chromium over a real server. Any request that would leave this machine fails the test."""

import os
import shutil
from urllib.parse import urlsplit

import pytest

from modules.settings import Settings
from modules.ui import build, launch_options
from tests.ui.fake import FakeEngine

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
]
PATIENCE = 120_000  # milliseconds: only a page that hangs ever meets it, however busy the machine
LOOPBACK = ("localhost", "127.0.0.1", "::1", "")


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have Chromium: .ci/run installs it."
        pytest.skip("There is no Chromium here; apt-get install chromium brings one.")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def engine():
    engine = FakeEngine(pace=0.15)
    engine.start()
    return engine


@pytest.fixture(scope="module")
def address(engine):
    blocks = build(engine, Settings())
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    yield address
    blocks.close()


@pytest.fixture
def visit(chromium, address):
    """Opens the page: visit(width=..., height=..., dark=...); checks at the end that all stayed at home."""
    contexts, strangers, troubles = [], [], []

    def watch(request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in LOOPBACK:
            strangers.append(request.url)

    def visit(width=1366, height=768, dark=False, **how):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **how
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("request", watch)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".snr-plot .dots circle", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert strangers == []
    assert troubles == []
