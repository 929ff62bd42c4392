"""How long the levels for one redraw of the panel take, for every sampler, spacing and number of steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from modules.diffusion.schedule import rehearsed
from modules.engine.studio import Engine
from modules.settings import Settings

STEPS = (5, 20, 50, 99)


def bench(model: str, numbers_of_steps: Sequence[int] = STEPS) -> dict[str, Any]:
    """Seconds of the first redraw, which imports torch, and of those after the studio's rehearsal.

    None is asked for twice.
    """
    engine, taken = Engine(Settings(model=model)), list[tuple[float, str]]()
    first = _redraw(engine, "Euler", "default", 3)
    list(rehearsed())
    for sampler in engine.samplers():
        for spacing in engine.spacings(sampler):
            for steps in numbers_of_steps:
                if steps <= engine.most_steps(sampler):
                    seconds = _redraw(engine, sampler, spacing, steps)
                    taken.append((seconds, f"{sampler}, {spacing}, {steps} steps"))
    slowest, which = max(taken)
    median = statistics.median(seconds for seconds, _ in taken)
    late = sorted(taken)[int(0.99 * len(taken))][0]
    print(
        f"The levels of {len(taken)} redraws took {1000 * median:.0f} ms each (median), "
        f"{1000 * late:.0f} ms at the 99th percentile, {1000 * slowest:.0f} ms at most ({which})."
    )
    return {
        "redraws": len(taken), "median_seconds": median, "p99_seconds": late, "slowest_seconds": slowest,
        "slowest": which, "first_seconds": first,
    }  # fmt: skip


def _redraw(engine: Engine, sampler: str, spacing: str, steps: int) -> float:
    begun = time.perf_counter()
    engine.snr_curve(sampler, spacing, steps)
    return time.perf_counter() - begun
