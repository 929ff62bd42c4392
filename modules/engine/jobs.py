"""Pressing Generate makes a job here: it waits its fair turn, runs whether or not anyone watches, and ends.

    queued -> running -> done, failed or cancelled;  queued -> cancelled;  running -> queued

One thread works, because one picture is painted at a time. Work of many pictures lets others pass between two
of them: it goes back to the head of its owner's line, and on from there at its next turn. What it reports
is kept as it comes, the latest only, so whoever comes back later sees where it stands.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modules.engine.forecast import Pace
from modules.engine.grids import Grid
from modules.tasks import Task

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
OVER = (DONE, FAILED, CANCELLED)
REMEMBERED_SECONDS = 600  # after its end; the pictures stay in the history
MOST_REMEMBERED = 200

Report = Mapping[str, Any]
Work = Callable[[Task | Grid, str], Generator[Report | None]]


class JobError(RuntimeError):
    """What cannot be done with a job; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stood a moment ago.

    `position` counts those that come before it, itself included: 0 is running or over. `seconds` is when
    it will be done, as far as that is known. `number` and `ended` count all jobs in the order of coming and
    of ending (0: not yet). `report` is the latest of its work, `version` the count of them. The task, which
    may hold large pictures, is let go at the end.
    """

    id: str
    owner: str
    task: Task | Grid | None
    state: str
    number: int
    position: int = 0
    seconds: float | None = None
    report: Report | None = None
    version: int = 0
    error: Exception | None = None
    ended: int = 0
    began: bool = False


@dataclass(eq=False)
class _Entry:
    """A job in the making; only touched while the lock is held, but for `reports`, which is the worker's."""

    id: str
    owner: str
    task: Task | Grid | None
    number: int
    reports: Generator[Report | None]
    state: str = QUEUED
    report: Report | None = None
    version: int = 0
    error: Exception | None = None
    began_at: float | None = None
    spent: float = 0.0  # seconds of the turns before this one
    ended: int = 0
    ended_at: float = 0.0


class Jobs:
    """All jobs of one studio. `work(task, owner)` refuses at once or returns a generator of reports.

    A report says in "share" how much of the steps is done, and in "pause" whether others may pass now; None
    says nothing, but is a place to stop at. The last report is the result. At most `most` wait,
    of one owner at most half as many. `foretold` gives the seconds that a task will take, None where it was
    never measured.
    """

    def __init__(self, work: Work, most: int = 100, foretold: Callable[[Task], float | None] | None = None):
        self.epoch = secrets.token_hex(4)  # numbers of another start of the studio are not ours
        self._work, self._most = work, most
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, deque[_Entry]] = {}  # by owner
        self._served: dict[str, int] = {}  # when each owner had a turn last, the latest at the end
        self._running: _Entry | None = None
        self._pace = Pace(foretold) if foretold else Pace()
        self._came = self._ended = self._turns = 0
        self._worker: threading.Thread | None = None

    def submit(self, task: Task | Grid, owner: str = "") -> Job:
        """A new job at the end of its owner's line; JobError if too many wait, or what the work refuses."""
        reports = self._work(task, owner)
        with self._changed:
            self._make_room(owner)
            self._came += 1
            entry = _Entry(secrets.token_urlsafe(12), owner, task, self._came, reports)
            self._entries[entry.id] = entry
            self._waiting.setdefault(owner, deque()).append(entry)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work_on, name="painting jobs", daemon=True)
                self._worker.start()
            self._tell()
            return self._seen(entry)

    def cancel(self, id: str) -> bool:
        """Stop a job, at its next report if it runs; whether there was anything left to stop."""
        with self._changed:
            entry = self._entries.get(id)
            if entry is None or entry.state in OVER:
                return False
            if entry.state == QUEUED:
                self._leave_line(entry)
                entry.reports.close()
            self._end(entry, CANCELLED)
            return True

    def sooner(self, id: str) -> bool:
        """Let a waiting job pass the one before it in its own owner's line; whether there was one."""
        with self._changed:
            entry = self._entries.get(id)
            if entry is None or entry.state != QUEUED:
                return False
            line = self._waiting[entry.owner]
            place = line.index(entry)
            if not place:
                return False
            line[place - 1], line[place] = line[place], line[place - 1]
            self._tell()
            return True

    def get(self, id: str) -> Job:
        """The job as it stands; JobError if it is unknown, or over for so long that it is forgotten."""
        with self._changed:
            if id not in self._entries:
                raise JobError("There is no such job. If it is over, its pictures are in the history.")
            return self._seen(self._entries[id])

    def of(self, owner: str) -> list[Job]:
        """This owner's jobs: those that are over in the order of their ends, then in the order of turns."""
        with self._changed:
            mine = [self._seen(entry) for entry in self._entries.values() if entry.owner == owner]
        return sorted(mine, key=lambda job: (job.state not in OVER, job.ended or job.position))

    def watch(self, id: str) -> Iterator[Job]:
        """The job as it stands, and again whenever that changed, until it is over. JobError as `get`."""
        job = self.get(id)
        yield job
        while job.state not in OVER:
            with self._changed:
                self._changed.wait_for(lambda job=job: self._stamp_of(id) != (job.state, job.version))
            job = self.get(id)
            yield job

    def stamp(self, owner: str) -> str:
        """A text that changes whenever this owner's jobs, or their places in line, do."""
        with self._changed:
            running = self._running
            reports = running.version if running is not None and running.owner == owner else 0
            return f"{self.epoch}.{self._turns}.{reports}"

    def _stamp_of(self, id: str) -> tuple[str, int] | None:
        entry = self._entries.get(id)
        return (entry.state, entry.version) if entry else None

    def _make_room(self, owner: str) -> None:
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= self._most:
            raise JobError(f"{waiting} pictures wait already. Try again in a minute.")
        if len(self._waiting.get(owner, ())) >= max(1, self._most // 2):
            raise JobError("So many of your pictures wait already that there is no place for more.")
        now = time.monotonic()
        over = sorted((one for one in self._entries.values() if one.state in OVER), key=lambda one: one.ended)
        for place, entry in enumerate(over):
            if now - entry.ended_at > REMEMBERED_SECONDS or len(over) - place > MOST_REMEMBERED:
                del self._entries[entry.id]

    def _line(self) -> list[_Entry]:
        """Who waits, in the order of turns: one of each owner, the longest unserved first."""
        lines, order = [list(line) for line in self._waiting.values()], list[_Entry]()
        lines.sort(key=lambda line: (self._served.get(line[0].owner, 0), min(one.number for one in line)))
        for turn in range(max(map(len, lines), default=0)):
            order += [line[turn] for line in lines if turn < len(line)]
        return order

    def _leave_line(self, entry: _Entry) -> None:
        line = self._waiting[entry.owner]
        line.remove(entry)
        if not line:
            del self._waiting[entry.owner]

    def _next(self) -> _Entry:
        """The job whose turn it is, waited for."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            entry = self._line()[0]
            self._leave_line(entry)
            self._turns += 1
            self._served.pop(entry.owner, None)
            self._served[entry.owner] = self._turns
            if len(self._served) > MOST_REMEMBERED:
                del self._served[next(iter(self._served))]
            entry.state, entry.began_at = RUNNING, time.monotonic() - entry.spent
            self._running = entry
            self._tell()
            return entry

    def _work_on(self) -> None:
        while True:
            entry = self._next()
            try:
                if self._ran(entry):
                    with self._changed:
                        self._end(entry, DONE)
            except Exception as error:
                with self._changed:
                    self._end(entry, FAILED, bare(error))
            with self._changed:
                self._running = None
                self._tell()

    def _ran(self, entry: _Entry) -> bool:
        """Run the work to its end, or to where it is not wanted any more; False if it lets others pass."""
        for report in entry.reports:
            if not self._goes_on(entry, report):
                break
            if report and report.get("pause") and self._steps_aside(entry):
                return False
        entry.reports.close()
        return True

    def _steps_aside(self, entry: _Entry) -> bool:
        """Put the running job back at the head of its owner's line, if anyone else waits."""
        with self._changed:
            if entry.state != RUNNING or not self._waiting.keys() - {entry.owner}:
                return False
            entry.state, entry.spent = QUEUED, time.monotonic() - (entry.began_at or 0)
            self._waiting.setdefault(entry.owner, deque()).appendleft(entry)
            self._tell()
            return True

    def _goes_on(self, entry: _Entry, report: Report | None) -> bool:
        """Keep the report; whether the job is still wanted."""
        with self._changed:
            if entry.state == RUNNING and report is not None:
                entry.report, entry.version = report, entry.version + 1
                self._changed.notify_all()
            return entry.state == RUNNING

    def _end(self, entry: _Entry, state: str, error: Exception | None = None) -> None:
        """Once only: a job that was cancelled stays so, however its work ends."""
        if entry.state in OVER:
            return
        if state == DONE and entry.began_at is not None and entry.task is not None:
            self._pace.done(entry.task, time.monotonic() - entry.began_at)
        self._ended += 1
        entry.state, entry.ended, entry.ended_at = state, self._ended, time.monotonic()
        entry.error, entry.task = error, None
        self._tell()

    def _tell(self) -> None:
        self._turns += 1
        self._changed.notify_all()

    def _seen(self, entry: _Entry) -> Job:
        line = self._line() if entry.state == QUEUED else []
        return Job(
            id=entry.id,
            owner=entry.owner,
            task=entry.task,
            state=entry.state,
            number=entry.number,
            position=line.index(entry) + 1 if line else 0,
            seconds=self._forecast(entry, line),
            report=entry.report,
            version=entry.version,
            error=entry.error,
            ended=entry.ended,
            began=entry.began_at is not None,
        )

    def _forecast(self, entry: _Entry, line: list[_Entry]) -> float | None:
        """Seconds until it is done: from the running job's own steps, and what those before it will take."""
        if entry.state in OVER:
            return None
        running, ahead, under_way = self._running, 0.0, None
        if running is not None and running.state == RUNNING and running.began_at is not None and running.task:
            share = float((running.report or {}).get("share") or 0)
            spent = time.monotonic() - running.began_at
            whole = self._pace.seconds(running.task)
            if share:
                ahead, under_way = spent * (1 - share) / share, (running.task, spent, share)
            elif whole is not None:
                ahead = max(0.0, whole - spent)
            else:
                return None
        if entry.state == RUNNING:
            return ahead
        waits = [self._pace.seconds(one.task, under_way) for one in line[: line.index(entry) + 1] if one.task]
        return ahead + sum(filter(None, waits)) if None not in waits else None


def bare(error: Exception) -> Exception:
    """The error without the frames that it came through: they would keep their tensors as long as the job."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
