"""What stands between a press and a picture is measured here: queue, page weight, time to a first preview.

python -m modules.bench_queue [--parts queue page] [--repeats 5] [--out FILE]

The part "page" starts the studio itself and drives Chromium by playwright, which the tests need too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import modules
from modules.engine.jobs import OVER, Jobs
from modules.tasks import TextToImage

JOBS, REPORTS = 300, 20
PATIENCE = 300_000  # milliseconds for a page to be there, and a picture to begin
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
DRAWN = ".snr-plot .dots circle"  # the last thing that appears on a page that opens

FIRST_PREVIEW = """() => new Promise((seen) => {
  const preview = document.querySelector(".preview"), begun = performance.now();
  new MutationObserver(() => seen(performance.now() - begun)).observe(preview, { attributeFilter: ["src"] });
  [...document.querySelectorAll("button.generate")].find((one) => one.offsetParent !== null).click();
})"""


def queue(repeats: int) -> dict[str, float]:
    """Milliseconds that a job costs beside its own work, of 20 reports, and one report; medians."""
    each = [_queued() for _ in range(repeats)]
    bare = [_bare() for _ in range(repeats)]
    job = statistics.median(each) - statistics.median(bare)
    return {"milliseconds_a_job": 1000 * job, "milliseconds_a_report": 1000 * job / REPORTS, "jobs": JOBS}


def page(repeats: int) -> dict[str, Any]:
    """The weight of the page as it opens, and seconds from a press to the first preview; medians.

    RuntimeError, in words, where playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("The part page needs playwright: pip install -r requirements-dev.txt") from None
    if (path := next(filter(None, map(shutil.which, BROWSERS)), None)) is None:
        raise RuntimeError("The part page needs Chromium: apt-get install chromium")
    with studio() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET])
        found = weigh(browser, address) | {"first_preview_seconds": first_preview(browser, address, repeats)}
        browser.close()
    return found


def weigh(browser: Any, address: str) -> dict[str, float]:
    """Requests, kilobytes over the wire, and seconds until all is drawn, of a first visit."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
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
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(address)
    tab.wait_for_selector(".engine.ready")
    tab.fill("#prompt textarea", "a red apple")
    found = []
    for _ in range(repeats):
        found.append(tab.evaluate(FIRST_PREVIEW) / 1000)
        tab.wait_for_selector('.frame[data-phase="done"]')
    context.close()
    return statistics.median(found)


@contextmanager
def studio() -> Generator[str]:
    """The studio as a person starts it, in a process of its own; its address."""
    command = [sys.executable, "app.py", "--offline"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=modules.HOME, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        for line in process.stdout or ():
            if found := re.search(r"open at (http\S+)", line):
                yield found[1]
                return
        raise RuntimeError("The studio did not start; python app.py says why.")
    finally:
        process.terminate()
        process.wait()


def _queued() -> float:
    """Seconds for one of many jobs whose work is nothing."""
    jobs = Jobs(lambda task, owner: _nothing(), most=4 * JOBS)
    task = TextToImage(steps=REPORTS)
    begun = time.perf_counter()
    ids = [jobs.submit(task, f"owner {i % 3}").id for i in range(JOBS)]
    for id in ids:
        *_, last = jobs.watch(id)
        assert last.state in OVER
    return (time.perf_counter() - begun) / JOBS


def _bare() -> float:
    """Seconds for the same work without a queue."""
    begun = time.perf_counter()
    for _ in range(JOBS):
        for _ in _nothing():
            pass
    return (time.perf_counter() - begun) / JOBS


def _nothing() -> Generator[dict[str, Any] | None]:
    for i in range(REPORTS):
        yield {"share": (i + 1) / REPORTS}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {"queue": queue, "page": page}


def main(argv: Sequence[str] | None = None) -> None:
    """Print what the parts measure, and write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m modules.bench_queue", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--repeats", type=int, default=5, help="measured runs; medians are shown")
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    args = parser.parse_args(argv)
    record = {}
    for part in args.parts:
        try:
            record[part] = PARTS[part](args.repeats)
        except RuntimeError as error:
            sys.exit(str(error))
        for name, value in record[part].items():
            print(f"{part:>8}  {name.replace('_', ' '):<28}{value:>12.4g}", flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1), "utf-8")


if __name__ == "__main__":
    main()
