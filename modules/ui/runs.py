"""From a press on Generate to a picture on the page: one generator of gallery messages per run."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from modules.engine.grids import Grid
from modules.engine.sheets import Sheet
from modules.metadata import infotext
from modules.tasks import Task
from modules.ui import gallery
from modules.ui.snr_panel import levels_message, walked
from modules.ui.toolkit import served

log = logging.getLogger(__name__)


class RunError(RuntimeError):
    """A run that failed; the message is a sentence for the user."""


PACE = 0.08  # seconds between two previews at least: a page cannot show more, and each costs a message
SHEET_PACE = 0.4  # and between two of a sheet, which are larger


def paint(engine: Any, task: Task | Grid, owner: str = "") -> Generator[dict[str, Any], None, None]:
    """Messages for the gallery while the engine paints: waiting, running (one a step), then done.

    The pictures go into the owner's history. Closing it closes the engine's own iterator, which frees the
    model at once. What fails ends it with a message that says so.
    """
    ready, sentence = engine.status()
    yield gallery.waiting("Waiting for its turn…" if ready else sentence)
    try:
        with closing(work(engine, task, owner)) as messages:
            yield from filter(None, messages)
    except Exception as error:
        yield gallery.refused(in_words(error))


def work(engine: Any, task: Task | Grid, owner: str = "") -> Generator[dict[str, Any] | None, None, None]:
    """The messages running (one a step) and done; None is a place to stop at. Refuses at once, as the engine.

    What fails later is a RunError, told in words.
    """
    events = engine.explore(task, owner) if isinstance(task, Grid) else engine.run(task)
    return _watched(engine, events, owner)


def walk(engine: Any, task: Task | Grid) -> dict[str, Any]:
    """The message for the panel at the start of a run: the levels it is going to visit; a grid has many."""
    if isinstance(task, Grid):
        return {}
    strength = getattr(task, "strength", 1.0)
    curve = engine.snr_curve(
        task.sampler, task.schedule, task.steps, task.model, strength, task.width, task.height
    )
    return {
        "live": levels_message(
            curve["visited"], f"{walked(task.sampler, task.schedule, task.steps, strength)}, in progress"
        )
    }


def in_words(error: Exception) -> str:
    """One sentence for a person: the error's own if it is one of ours; tracebacks go to the console."""
    if type(error).__module__.split(".")[0] == "modules":
        return str(error)
    log.error("This was not foreseen", exc_info=error)
    return (
        f"This did not work ({type(error).__name__}). Your settings are kept; "
        "the window where the studio was started says more."
    )


def _watched(engine: Any, events: Iterator[Any], owner: str) -> Generator[dict[str, Any] | None, None, None]:
    begun = time.monotonic()
    shown = 0.0
    sheet: Progress | None = None
    try:
        with closing(events):  # pyright: ignore[reportArgumentType]
            for event in events:
                now = time.monotonic()
                if hasattr(event, "images"):
                    yield None  # a run that was stopped while it decoded leaves nothing
                    yield finished(engine, event, owner)
                elif isinstance(event, Sheet):
                    sheet = Progress(event, sheet.found if sheet else event.done)
                    yield filling(sheet, 0.0, now - begun)
                elif sheet is not None:
                    if now - shown >= SHEET_PACE:
                        shown = now
                        share = (event.index + 1) / event.total
                        yield filling(sheet, share, now - begun, engine.preview(event))
                    else:
                        yield None
                elif now - shown >= PACE or event.index + 1 >= event.total:
                    shown = now
                    yield running(engine, event, now - begun)
                else:
                    yield None
    except Exception as error:
        raise RunError(in_words(error)) from error


def running(engine: Any, step: Any, seconds: float) -> dict[str, Any]:
    """The message of one step: how far, how long still, what the picture looks like so far."""
    done = step.index + 1
    ahead = step.total - done
    text = f"{done} / {step.total}"
    text += f", {gallery.left(ahead * seconds / done)}" if ahead and done > 1 else ""
    text += "" if ahead else ", decoding…"
    return {
        "phase": "running",
        "text": text,
        "share": done / step.total,
        "preview": gallery.data_url(engine.preview(step)),
        "call": step.index,
    }


class Progress(NamedTuple):
    """A sheet that is being filled; `found` of its pictures were there at the start."""

    sheet: Sheet
    found: int


def filling(progress: Progress, share: float, seconds: float, forming: Any = None) -> dict[str, Any]:
    """The message of a sheet with so much of its next picture done: which picture, how long still."""
    sheet, found = progress
    done = sheet.done + share
    text = f"picture {min(sheet.done + 1, sheet.total)} of {sheet.total}"
    if done > found and sheet.done < sheet.total:
        text += f", {gallery.left((sheet.total - done) * seconds / (done - found))}"
    return {
        "phase": "running",
        "text": text,
        "share": done / sheet.total,
        "preview": gallery.data_url(sheet.preview(forming)),
        "kept": sheet.done,
        "pause": not share and found < done < sheet.total,
    }


def finished(engine: Any, result: Any, owner: str = "") -> dict[str, Any]:
    """The message of a finished run: every picture as a PNG file that carries its recipe."""
    info = result.info
    pictures = [shown(path, info, index) for index, path in enumerate(kept(engine, result, owner))]
    count = len(pictures)
    told = f"{count} picture{'s' if count > 1 else ''} in {info['seconds']:.1f} s"
    if grid := info.get("grid"):
        told = f"{prod(map(len, grid.values()))} pictures on one sheet, {info['seconds']:.1f} s of painting"
    if cut := info.get("words_cut"):
        told += f". The prompt was too long: its last {cut} words were not used."
    if rescue := info.get("rescue"):
        told = f"{told.removesuffix('.')}. {rescue}"
    return {"phase": "done", "text": told, "pictures": pictures}


def shown(path: Path, info: Mapping[str, Any], index: int) -> dict[str, Any]:
    """One finished picture for the page, with the levels that its run visited; `path` may be served."""
    path_walked = walked(info["sampler"], info["schedule"], info["steps"], info.get("strength", 1.0))
    visited = levels_message(
        {name: info[key] for name, key in VISITED.items()}, f"{path_walked}, seed {info['seeds'][index]}"
    )
    text = infotext.write({**info, "seed": info["seeds"][index]})
    return gallery.picture(path, info, index, text, visited)


VISITED = {"t": "timesteps", "alpha": "alpha", "sigma": "sigma", "snr": "snr", "log_snr": "log_snr"}


def kept(engine: Any, result: Any, owner: str = "") -> list[Path]:
    """Saves the result's pictures and returns copies of the files that may be served."""
    return [served(path) for path in engine.save(result, owner)]
