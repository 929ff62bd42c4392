"""How long a task will take and what memory it will need is foretold here, from what was measured here.

A run has three parts: a start of its own length, network calls, and decoding. A call's and a decoding's
seconds and bytes are lines over the megapixels that they work on at once, fitted to the runs before. What was
never measured is not guessed.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modules.diffusion.samplers import SAMPLERS
from modules.engine.grids import Grid
from modules.engine.measurements import Measurements, Observation, Place, now
from modules.models import memory, parts
from modules.tasks import ClassConditional, Task

if TYPE_CHECKING:
    from modules.models.pipelines import Model

FILE = ".measured.json"
START, CALL, DECODE = "start", "call", "decode"
RECENT = 5  # jobs whose pace is taken where nothing was measured


class Work(NamedTuple):
    """What a task asks of a network: `calls`, each of `passes` conditions over `batch` pictures of `area`."""

    calls: int
    passes: int
    batch: int
    area: float  # megapixels

    @property
    def call(self) -> float:
        """Megapixels of one network call."""
        return self.passes * self.batch * self.area

    @property
    def whole(self) -> float:
        """Megapixels of all its calls."""
        return self.calls * self.call


def work(task: Task) -> Work:
    """The work that a task is, known before anything is loaded."""
    area = task.width * task.height / 1e6
    return Work(calls(task), passes(task), task.batch_size, area)


def calls(task: Task) -> int:
    """How often the network will be asked."""
    steps = max(1, int(task.steps * getattr(task, "strength", 1.0) + 1e-9))
    sampler = SAMPLERS.get(task.sampler)
    return sampler.calls(steps) if sampler else steps


def passes(task: Task) -> int:
    """How many conditions a call is asked under: those whose share of guidance is not 0."""
    words, avoided = task.prompt.strip(), task.negative_prompt.strip()
    classed = isinstance(task, ClassConditional)
    weights = [task.guidance_scale] if words or (avoided and not classed) else []
    weights += [task.class_scale] if isinstance(task, ClassConditional) else []
    return sum(abs(share) > 1e-9 for share in (1 - sum(weights), *weights))


class Line(NamedTuple):
    """`fixed + rate * amount`."""

    fixed: float
    rate: float

    def at(self, amount: float) -> float:
        """The value there."""
        return self.fixed + self.rate * amount


def fit(points: Iterable[tuple[float, float]]) -> Line | None:
    """The line that is least wrong in relative terms, never falling and never below 0; None of no points.

    Weighted least squares with weights 1 / y^2. One amount alone gives a line through 0: twice the work,
    twice the cost.
    """
    found = [(x, max(y, 1e-9)) for x, y in points]
    if not found:
        return None
    weights = [1 / y**2 for _, y in found]
    mean = _mean(found, weights)
    if len({x for x, _ in found}) == 1:
        return Line(0.0, mean[1] / mean[0]) if mean[0] else Line(mean[1], 0.0)
    spread = sum(w * (x - mean[0]) ** 2 for w, (x, _) in zip(weights, found))
    rate = sum(w * (x - mean[0]) * (y - mean[1]) for w, (x, y) in zip(weights, found)) / spread
    if rate < 0:
        return Line(mean[1], 0.0)
    if (fixed := mean[1] - rate * mean[0]) < 0:
        through = sum(w * x * x for w, (x, _) in zip(weights, found))
        return Line(0.0, sum(w * x * y for w, (x, y) in zip(weights, found)) / through)
    return Line(fixed, rate)


def _mean(points: Sequence[tuple[float, float]], weights: Sequence[float]) -> tuple[float, float]:
    total = sum(weights)
    return tuple(sum(w * point[axis] for w, point in zip(weights, points)) / total for axis in (0, 1))  # type: ignore


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a task will cost: seconds, `bytes` beside the model's `weights`, and what of it is `free` now.

    None is what nobody knows yet. `loaded`: whether the weights are in memory already.
    """

    seconds: float | None = None
    bytes: int | None = None
    weights: int = 0
    free: int | None = None
    loaded: bool = False

    @property
    def needed(self) -> int | None:
        """Bytes in all, weights included."""
        return None if self.bytes is None else self.bytes + self.weights

    @property
    def fits(self) -> bool:
        """False only where it is known that there is too little memory."""
        if self.bytes is None or self.free is None:
            return True
        return self.bytes + (0 if self.loaded else self.weights) <= self.free


class Forecaster:
    """Watches runs, keeps what they cost, and foretells the next; safe to use from many threads."""

    def __init__(self, folder: Path):
        self.measurements = Measurements(folder / FILE)
        self._resting: dict[Place, int] = {}  # the fewest bytes held by this process at the start of a run

    def of(self, task: Task, place: Place | None, *, loaded: bool = False) -> Forecast:
        """The forecast of a task at a place; at none (its model was never run here) nothing is known."""
        if place is None:
            return Forecast()
        seen, asked = self.measurements.at(place), work(task)
        amounts = {START: 0.0, CALL: asked.call, DECODE: asked.area}
        times = dict.fromkeys(amounts, 1) | {CALL: asked.calls, DECODE: asked.batch}
        lines = {part: _line(seen, part, task.kind, "seconds") for part in amounts}
        sizes = {part: _line(seen, part, task.kind, "bytes") for part in amounts}
        return Forecast(
            seconds=None
            if lines[CALL] is None
            else sum(times[part] * line.at(amounts[part]) for part, line in lines.items() if line),
            bytes=max((round(line.at(amounts[part])) for part, line in sizes.items() if line), default=None),
            weights=place.weights,
            free=memory.free(place.device),
            loaded=loaded,
        )

    def watched(self, model: Model, task: Task, events: Generator[Any]) -> Iterator[Any]:
        """The same events; what they cost is kept at the end, unless the run was rescued or given up."""
        place = place_of(model)
        held = memory.held(place.device)
        if held is not None and place.device == "cpu":  # its allocator holds on to some of what was freed
            held = self._resting[place] = min(held, self._resting.get(place, held))
        spent, taken, rescued = list[float](), list[int](), False
        memory.forget_peak(place.device)
        begun = time.perf_counter()
        with contextlib.closing(events):
            for event in events:
                spent.append(time.perf_counter() - begun)
                taken.append(_above(held, memory.peak(place.device)))
                rescued = rescued or "rescue" in getattr(event, "info", ())
                yield event
                memory.forget_peak(place.device)
                begun = time.perf_counter()
        if not rescued:
            self.measurements.add(place, observed(task, spent, taken))


def observed(task: Task, spent: Sequence[float], taken: Sequence[int]) -> list[Observation]:
    """What a run taught: `spent` and `taken` are seconds and bytes up to each of its Steps and its Result.

    The first call comes with the start, which is what is left of it; a run of one call is all call, no start.
    """
    asked, at = work(task), now()
    if len(spent) < 2:
        return []
    call = statistics.median(spent[1:-1] or spent[:1])
    parts = {
        START: (0.0, max(0.0, spent[0] - call), taken[0]),
        CALL: (asked.call, call, max(taken[:-1])),
        DECODE: (asked.area, spent[-1] / asked.batch, taken[-1]),
    }
    return [
        Observation(at, part, task.kind, round(amount, 6), round(seconds, 6), bytes)
        for part, (amount, seconds, bytes) in parts.items()
    ]


def place_of(model: Model) -> Place:
    """Where a loaded model runs."""
    import torch

    return Place(
        model=model.card.id,
        hash=model.hash,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads() if model.device.type == "cpu" else 0,
        weights=parts.weight_bytes(model),
    )


class Pace:
    """When jobs will be done: as foretold of each, else at the pace of those that were just done."""

    def __init__(self, foretold: Callable[[Task], float | None] = lambda _: None):
        self._foretold = foretold
        self._paces: deque[float] = deque(maxlen=RECENT)

    def done(self, job: Job, seconds: float) -> None:
        """A job was done in so many seconds."""
        self._paces.append(seconds / _whole(job))

    def seconds(self, job: Job, under_way: tuple[Job, float, float] | None = None) -> float | None:
        """How long a job takes from its start; `under_way`: the running one, its seconds and share so far."""
        foretold = [self._foretold(task) for task in _tasks(job)]
        if None not in foretold:
            return sum(filter(None, foretold))
        if self._paces:
            return statistics.median(self._paces) * _whole(job)
        if under_way is None or not under_way[2]:
            return None
        running, spent, share = under_way
        return spent / share / _whole(running) * _whole(job)


Job = Task | Grid


def _tasks(job: Job) -> Sequence[Task]:
    return job.cells if isinstance(job, Grid) else (job,)


def _whole(job: Job) -> float:
    return sum(work(task).whole for task in _tasks(job))


def _line(seen: Sequence[Observation], part: str, kind: str, what: str) -> Line | None:
    """The line of a part: of this kind of task where there are any, else of all.

    Of seconds at one amount the median counts, of bytes the most.
    """
    of_part = [one for one in seen if one.part == part and (what == "seconds" or one.bytes)]
    groups = defaultdict[float, list[float]](list)
    for one in [one for one in of_part if one.kind == kind] or of_part:
        groups[one.amount].append(getattr(one, what))
    middle = statistics.median if what == "seconds" else max
    return fit((amount, middle(values)) for amount, values in groups.items())


def _above(resting: int | None, peak: int | None) -> int:
    return max(0, peak - resting) if resting is not None and peak is not None else 0
