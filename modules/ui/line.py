"""What the page is told of its own jobs: the one in the frame, those in line behind it, those that ended.

gallery.js asks by name (gradio's server functions) and waits for an answer until something has changed. It
says what it has seen already, so an answer that is lost is given again, and a page that was closed, reloaded
or cut off finds its jobs by the owner's name that the browser keeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modules.engine.grids import Grid
from modules.engine.jobs import DONE, FAILED, OVER, QUEUED, RUNNING, Job, Jobs
from modules.ui import gallery, runs
from modules.ui.history import owner_name

PATIENCE = 2.0  # seconds that an unchanged state is kept back; then forecasts are due again
LOOK = 0.03  # seconds between two looks at whether something changed
RESTORED = 12  # finished jobs, at most, that a page gets back when it opens


def answers(engine: Any, jobs: Jobs) -> list[Callable[..., Any]]:
    """What the frame may ask for, each a function of the question as the browser sent it."""

    async def look_at_jobs(asked: Any) -> dict[str, Any]:
        asked = asked if isinstance(asked, dict) else {}
        owner, until = owner_name(asked.get("owner")), time.monotonic() + PATIENCE
        while jobs.stamp(owner) == asked.get("stamp") and time.monotonic() < until:
            await asyncio.sleep(LOOK)
        return await asyncio.to_thread(news, engine, jobs, owner, asked)

    def theirs(asked: Any) -> bool:
        return any(job.id == asked.get("run") for job in jobs.of(owner_name(asked.get("owner"))))

    def cancel_job(asked: Any) -> bool:
        return theirs(asked) and jobs.cancel(asked["run"])

    def move_job(asked: Any) -> bool:
        return theirs(asked) and jobs.sooner(asked["run"])

    return [look_at_jobs, cancel_job, move_job]


def news(engine: Any, jobs: Jobs, owner: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Where the owner's jobs stand, and which ended since `asked["seen"]` (nothing: since the page opened).

    `now` is the message for the frame. It brings the levels to be visited unless `asked["run"]` has them.
    """
    stamp, mine = jobs.stamp(owner), jobs.of(owner) if owner else []
    epoch, _, count = str(asked.get("seen") or "").partition(":")
    seen = int(count) if epoch == jobs.epoch and count.isdecimal() else 0
    over = [job for job in mine if job.state in OVER and job.ended > seen]
    if not epoch:  # a page that has just opened: only what can still be shown
        over = [job for job in over if job.state == DONE][-RESTORED:]
    going = [job for job in mine if job.state in (RUNNING, QUEUED)]
    first = next((job.id for job in going if job.state == QUEUED), None)
    return {
        "stamp": stamp,
        "seen": f"{jobs.epoch}:{max([seen, *(job.ended for job in mine)])}",
        "over": [told for job in over if (told := ended(job))],
        "now": going_on(engine, going[0], asked.get("run")) if going else None,
        "queue": [in_line(job) | {"first": job.id == first} for job in going[1:]],
    }


def ended(job: Job) -> dict[str, Any] | None:
    """The message of a job that is over; None if its pictures were deleted since."""
    if job.state == FAILED:
        return gallery.refused(str(job.error)) | {"run": job.id}
    if job.state != DONE or job.report is None:
        return gallery.stopped((job.report or {}).get("kept", 0)) | {"run": job.id}
    pictures = [one for one in job.report["pictures"] if Path(one["file"]["path"]).exists()]
    return {**job.report, "pictures": pictures, "run": job.id} if pictures else None


def going_on(engine: Any, job: Job, known: Any) -> dict[str, Any]:
    """The message of the job that the frame shows: running, or the next of this owner's."""
    if job.state == QUEUED:
        return gallery.waiting(f"Waiting: {place(job)}") | {"run": job.id}
    ready, sentence = engine.status()
    message = job.report or gallery.waiting("Starting…" if ready else sentence)
    told = {**message, "run": job.id}
    if known != job.id and job.task is not None:
        told |= runs.walk(engine, job.task)
    return told


def in_line(job: Job) -> dict[str, Any]:
    """One line of the list of those that wait."""
    title = gallery.title(job.task.scalars() if job.task else {})
    if isinstance(job.task, Grid):
        title += f" ({len(job.task.cells)} pictures)"
    return {"run": job.id, "title": title, "place": place(job)}


def place(job: Job) -> str:
    """Where in line, and when it is done, as a person says it."""
    said = "next" if job.position == 1 else f"number {job.position}"
    return said if job.seconds is None else f"{said}, in about {gallery.span(job.seconds)}"
