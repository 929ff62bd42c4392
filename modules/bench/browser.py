"""What a person sees in a browser is timed here, in Chromium: the page itself, a first preview, a redraw."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from modules.bench.start import answers, studio, waited_for

PATIENCE = 300_000  # milliseconds for a page to be there, and a picture to begin
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
SCREEN = {"width": 1366, "height": 768}
DRAWN = ".snr-plot .dots circle"  # the last thing that appears on a page that opens
AT_REST = 500  # milliseconds between two changes: each is to be drawn, and all that follows it over
TARGET = 0.1  # seconds from a change of a control to the new drawing

FIRST_PREVIEW = """() => new Promise((seen) => {
  const preview = document.querySelector(".preview"), begun = performance.now();
  new MutationObserver(() => seen(performance.now() - begun)).observe(preview, { attributeFilter: ["src"] });
  [...document.querySelectorAll("button.generate")].find((one) => one.offsetParent !== null).click();
})"""

# From the press that changes a control to the moment after the frame that shows the new drawing.
REDRAWN = """() => {
  let begun = null;
  window.redrawn = [];
  for (const act of ["pointerdown", "keydown"]) {
    document.addEventListener(act, () => { begun = performance.now(); }, true);
  }
  window.addEventListener("studio", ({ detail }) => {
    if (!detail.planned || begun === null) return;
    const from = begun;
    begun = null;
    requestAnimationFrame(() => setTimeout(() => window.redrawn.push(performance.now() - from)));
  });
}"""


class NoBrowser(RuntimeError):
    """There is nothing to drive; the message says what to install."""


@contextmanager
def chromium() -> Generator[Any]:
    """A headless Chromium; NoBrowser, in words, where playwright or Chromium is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowser("A browser needs playwright: pip install -r requirements-dev.txt") from None
    if (path := next(filter(None, map(shutil.which, BROWSERS)), None)) is None:
        raise NoBrowser("There is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET])
        try:
            yield browser
        finally:
            browser.close()


def page(model: str, repeats: int) -> dict[str, Any]:
    """The weight of the page as it opens, and seconds from a press to the first preview; NoBrowser."""
    with chromium() as browser, studio(model) as (process, _, address):
        waited_for(lambda: answers(address), process)
        found = weigh(browser, address) | {"first_preview_seconds": first_preview(browser, address, repeats)}
    print(
        f"The page is {found['kilobytes']} kB in {found['requests']} requests, all drawn after "
        f"{found['seconds_until_drawn']:.1f} s; a first preview is there "
        f"{found['first_preview_seconds']:.1f} s after the press."
    )
    return found


def redraws(model: str, repeats: int) -> dict[str, Any]:
    """Seconds from a change of sampler, spacing or steps to the panel's new drawing, the model loaded.

    Nothing but a printed sentence where there is no browser.
    """
    try:
        with chromium() as browser, studio(model) as (process, _, address):
            waited_for(lambda: answers(address), process)
            taken = redrawn(browser, address, repeats)
    except NoBrowser as missing:
        print(f"The redraw in a browser was not timed. {missing}")
        return {}
    slowest, which = max(taken)
    median = statistics.median(seconds for seconds, _ in taken)
    verdict = "within" if slowest <= TARGET else "not within"
    print(
        f"In the browser {len(taken)} redraws were on the screen after {1000 * median:.0f} ms (median), "
        f"{1000 * slowest:.0f} ms at most ({which}): {verdict} {1000 * TARGET:.0f} ms."
    )
    return {
        "redraws_in_browser": len(taken), "median_seconds_in_browser": median,
        "slowest_seconds_in_browser": slowest, "slowest_in_browser": which,
    }  # fmt: skip


def weigh(browser: Any, address: str) -> dict[str, float]:
    """Requests, kilobytes over the wire, and seconds until all is drawn, of a first visit."""
    context = browser.new_context(viewport=SCREEN)
    tab = context.new_page()
    wire, heard = context.new_cdp_session(tab), list[float]()
    wire.send("Network.enable")
    wire.on("Network.loadingFinished", lambda event: heard.append(event["encodedDataLength"]))
    begun = time.perf_counter()
    tab.goto(address, timeout=PATIENCE)
    tab.wait_for_selector(DRAWN, state="attached", timeout=PATIENCE)
    seconds = time.perf_counter() - begun
    context.close()
    return {"requests": len(heard), "kilobytes": round(sum(heard) / 1000), "seconds_until_drawn": seconds}


def first_preview(browser: Any, address: str, repeats: int) -> float:
    """Seconds from a press on Generate to the first preview in the frame, the model loaded; the median."""
    found = []
    with opened(browser, address) as tab:
        tab.fill("#prompt textarea", "a red apple")
        for _ in range(repeats):
            found.append(tab.evaluate(FIRST_PREVIEW) / 1000)
            tab.wait_for_selector('.frame[data-phase="done"]')
    return statistics.median(found)


def redrawn(browser: Any, address: str, repeats: int) -> list[tuple[float, str]]:
    """Seconds, and what was changed, of so many rounds of changes that a person makes to the panel."""
    taken = []
    with opened(browser, address) as tab:
        tab.evaluate(REDRAWN)
        for _ in range(repeats):
            for what, change in CHANGES:
                tab.wait_for_timeout(AT_REST)
                before = tab.evaluate("redrawn.length")
                change(tab)
                tab.wait_for_function(f"redrawn.length > {before}")
                taken.append((tab.evaluate("redrawn.at(-1)") / 1000, what))
    return taken


def chosen(control: str, name: str) -> Callable[[Any], None]:
    """A choice from one of the panel's lists."""

    def choose(tab: Any) -> None:
        tab.click(f"#{control} input")
        tab.get_by_role("option", name=name, exact=True).click()

    return choose


def stepped(key: str) -> Callable[[Any], None]:
    """A key pressed on the slider of steps."""
    return lambda tab: tab.press("#steps input[type=range]", key)


CHANGES: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("sampler Euler", chosen("sampler", "Euler")),
    ("spacing exponential", chosen("schedule", "exponential")),
    ("one step more", stepped("ArrowRight")),
    ("sampler DDIM", chosen("sampler", "DDIM")),
    ("one step less", stepped("ArrowLeft")),
    ("sampler DPM++ 2M", chosen("sampler", "DPM++ 2M")),
    ("spacing karras", chosen("schedule", "karras")),
)
"""Each is a change to what stands before it, whatever the page began with."""


@contextmanager
def opened(browser: Any, address: str) -> Generator[Any]:
    """The page with its model loaded and its panel drawn."""
    context = browser.new_context(viewport=SCREEN)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(address)
    tab.wait_for_selector(DRAWN, state="attached")
    tab.wait_for_selector(".engine.ready")
    yield tab
    context.close()
