"""Stand-ins for what the engine keeps of a run, without torch: drawn frames, and a sampler's way to truth."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from modules.engine.trajectory import Moment, Trajectory, heat_map

ANYTHING: Any = SimpleNamespace(nbytes=1000)


class FakeTrajectory(Trajectory):
    """A run's moments; its frames are the pictures that FakeEngine drew on the way."""

    @classmethod
    def of(cls, steps: Sequence[Any], guided: bool) -> FakeTrajectory:
        """The moments of these steps."""
        names = ["noisy", "without", "prompt", "heat", "clean"] if guided else ["noisy", "clean"]
        moments = [
            Moment(
                step.index,
                step.t,
                step.alpha,
                step.sigma,
                step.snr,
                step.sigma,
                dict.fromkeys(names, ANYTHING),
            )
            for step in steps
        ]
        made = cls(len(steps), moments, weakref.ref(cls))
        object.__setattr__(made, "drawn", [step.predicted_x0 for step in steps])
        return made

    def frames(self, places, names, picture=0, *, raw=False):
        """A drawing for each; the heat map is a ramp."""
        ramp = np.linspace(0, 1, 256).reshape(16, 16)
        return [
            {name: heat_map(ramp) if name == "heat" else self.shown(place, raw) for name in names}
            for place in places
        ]

    def shown(self, place: int, raw: bool) -> Image.Image:
        """The drawing of a moment, in squares where it is raw."""
        drawn = self.drawn[place]  # pyright: ignore[reportAttributeAccessIssue]
        return drawn.resize((16, 16) if raw else (256, 256))


def conformance(sampler: str, schedule: str) -> list[dict[str, float]]:
    """A curve that nears 0.5, sooner with karras."""
    reach = 0.2 if schedule == "karras" else 0.15 + 0.05 * len(sampler) / 10
    return [{"steps": n, "calls": n, "std": 0.5 - reach / n} for n in (1, 2, 5, 10, 20, 40, 80, 160)]
