"""What a job costs beside its own work is measured here: the way through the queue, and its reports."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from typing import Any

from modules.engine.jobs import OVER, Jobs
from modules.tasks import TextToImage

JOBS, REPORTS = 300, 20


def bench(repeats: int) -> dict[str, float]:
    """Milliseconds that a job costs beside its own work, of 20 reports, and one report; medians."""
    each = [_queued() for _ in range(repeats)]
    bare = [_bare() for _ in range(repeats)]
    job = statistics.median(each) - statistics.median(bare)
    print(f"A job costs {1000 * job:.1f} ms beside its own work, {1000 * job / REPORTS:.2f} ms a report.")
    return {"milliseconds_a_job": 1000 * job, "milliseconds_a_report": 1000 * job / REPORTS, "jobs": JOBS}


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
