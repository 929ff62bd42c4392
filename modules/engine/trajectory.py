"""What the network saw and said at every call of the latest runs is kept here, small, to be looked at."""

from __future__ import annotations

import functools
import hashlib
import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from modules.tasks import ClassConditional, Task

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.guidance import Network
    from modules.diffusion.sampling import Step
    from modules.engine.generation import Result
    from modules.models.latent import Conditions
    from modules.models.pipelines import Model

MOST_BYTES = 48_000_000  # of latents, all runs together; a run that alone needs half of it is thinned
MOST_RUNS = 8
MOST_CALLS = 128  # kept of one run; of a longer one every second, third, ...
SIDE = 256  # pixels of the frames that are shown
NOISY, CLEAN, WITHOUT, HEAT = "noisy", "clean", "without", "heat"
HEATS = np.array([(13, 8, 35), (94, 22, 80), (184, 67, 12), (246, 160, 62), (255, 244, 214)], float)


class StepsError(LookupError):
    """Steps that cannot be shown; the message is a sentence for the user."""


class Moment(NamedTuple):
    """One network call, `index` of the run: its level, what guidance added, and the latents by name.

    "noisy": what the network was given; "clean": the x_0 it had in mind after guidance; "without" and the
    names of conditions: the x_0 that each answer alone implies; all (B, C, H, W) in half precision. "heat",
    (B, H, W): root mean square over the channels of what guidance added, so that its own is `guidance_norm`.
    """

    index: int
    t: float
    alpha: float
    sigma: float
    snr: float
    guidance_norm: float
    latents: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The moments of one run, first call first, of `total` calls; the model is not kept alive for them."""

    total: int
    moments: Sequence[Moment]
    model: weakref.ref[Model]

    @property
    def names(self) -> list[str]:
        """The latents that every moment has."""
        return list(self.moments[0].latents)

    @property
    def bytes(self) -> int:
        """The memory that its latents take."""
        return sum(each.nbytes for moment in self.moments for each in moment.latents.values())

    def frames(
        self, places: Sequence[int], names: Sequence[str], picture: int = 0, *, raw: bool = False
    ) -> list[dict[str, Image.Image]]:
        """The named latents of some moments as pictures, about 256 pixels a side.

        Decoded, or where `raw` is set every latent as one square of colour. StepsError if the model that made
        them is not in memory any more.
        """
        import torch

        model = self.model()
        if model is None:
            raise StepsError("Another model is in memory now, and only the one that walked them can decode.")
        moments = [self.moments[place] for place in places]
        wanted = [name for name in names if name in self.names]
        seen = [name for name in wanted if name != HEAT]
        frames: list[dict[str, Image.Image]] = [{} for _ in moments]
        if seen and moments:
            latents = torch.cat([moment.latents[name][picture, None] for moment in moments for name in seen])
            shown = iter(self._projected(latents) if raw else _decoded(latents, model))
            frames = [{name: next(shown) for name in seen} for _ in moments]
        if HEAT in wanted:
            hottest = max(float(each.latents[HEAT].max()) for each in self.moments) or 1.0
            for frame, moment in zip(frames, moments):
                frame[HEAT] = heat_map(moment.latents[HEAT][picture].float().numpy() / hottest)
        return frames

    def _projected(self, latents: Tensor) -> Iterator[Image.Image]:
        """Every latent as the colour that a linear map of its numbers gives."""
        from modules.images import to_pil

        colours = _with_one(latents) @ self._linear_decoder
        return (_large(each, Image.Resampling.NEAREST) for each in to_pil(colours.movedim(-1, 1)))

    @functools.cached_property
    def _linear_decoder(self) -> Tensor:
        """The (channels + 1, 3) map that comes nearest to the decoder on what this run had in mind."""
        import torch
        import torch.nn.functional as F

        model = self.model()
        assert model is not None
        latents = self.moments[-1].latents[CLEAN].float()
        colours = F.adaptive_avg_pool2d(model.decode(latents).cpu(), (latents.shape[-2], latents.shape[-1]))
        known, wanted = _with_one(latents).flatten(0, 2), colours.movedim(1, -1).flatten(0, 2)
        steady = 1e-2 * len(known) * torch.eye(known.shape[1])  # a picture of one colour fixes no map
        return torch.linalg.solve(known.T @ known + steady, known.T @ wanted)


class Trajectories:
    """The trajectories of the latest runs, each found by the pixels of a picture that it ended in.

    At most 8 runs and 48 MB: the oldest go first. Safe to use from many threads.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_runs: int = MOST_RUNS):
        self._most_bytes, self._most_runs = most_bytes, most_runs
        self._lock = threading.Lock()
        self._kept: list[tuple[Trajectory, list[str]]] = []  # with a fingerprint of each picture; newest last

    def recorded(self, model: Model, task: Task, owner: Model | None = None) -> Iterator[Step | Result]:
        """The run of a task as `generate` yields it, kept once it is over; a run that is closed is not.

        `owner`: the model in memory that can decode it, where `model` stands for it during this run only.
        """
        from modules.diffusion.sampling import Step
        from modules.engine.generation import Result, generate

        tape = Tape(model, task, self._most_bytes // 2)
        with closing(generate(model, task, tape.watch)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Step):
                    tape.take(event)
                elif isinstance(event, Result):
                    self.keep(tape.trajectory(owner or model), event.images)
                yield event

    def keep(self, trajectory: Trajectory, pictures: Sequence[Image.Image]) -> None:
        """Remember a run by its pictures, and forget the oldest while there is too much."""
        marks = [fingerprint(picture) for picture in pictures]
        with self._lock:
            self._kept = [entry for entry in self._kept if entry[1] != marks]
            self._kept.append((trajectory, marks))
            while len(self._kept) > self._most_runs or (
                len(self._kept) > 1 and sum(kept.bytes for kept, _ in self._kept) > self._most_bytes
            ):
                del self._kept[0]

    def find(self, picture: Image.Image) -> tuple[Trajectory, int]:
        """The run that ended in this picture, and its place in the batch; StepsError if it is not kept."""
        mark = fingerprint(picture)
        with self._lock:
            for trajectory, marks in reversed(self._kept):
                if mark in marks:
                    return trajectory, marks.index(mark)
        raise StepsError(
            f"The steps of this picture are gone: those of the latest {self._most_runs} runs are kept."
        )


class Tape:
    """Records one run: `watch` wraps the network, `take` hears of every step."""

    def __init__(self, model: Model, task: Task, most_bytes: int = MOST_BYTES):
        self._model, self._task, self._most_bytes = model, task, most_bytes
        self._moments: list[Moment] = []
        self._total = self._every = 0
        self._heard: dict[str, Tensor] = {}

    def watch(self, predict: Network, conditions: Conditions) -> Network:
        """The same network; what it is given and what it answers is noted."""
        weights = {id(condition): weight for condition, weight in conditions.weighted}
        names = dict(zip(weights, self._names(len(weights))))

        def watched(x: Tensor, t: float, asked: list[Any]) -> Tensor:
            answer = predict(x, t, asked)
            answers = dict(zip(map(id, asked), answer.chunk(len(asked))))
            self._heard = self._views(x.chunk(len(asked))[0], t, answers, id(conditions.base), names, weights)
            return answer

        return watched

    def take(self, step: Step) -> None:
        """Keep this step, if it is one of those that are kept."""
        latents = {**self._heard, CLEAN: step.predicted_x0}
        if not self._every:
            small = {name: self._small(each, name) for name, each in latents.items()}
            room = self._most_bytes // sum(each.nbytes for each in small.values())
            self._total = step.total
            self._every = math.ceil(step.total / max(1, min(MOST_CALLS, room) - 1))  # and the last one
        if step.index % self._every == 0 or step.index + 1 == step.total:
            small = {name: self._small(each, name) for name, each in latents.items()}
            level = (step.t, step.alpha, step.sigma, step.snr, step.guidance_norm)
            self._moments.append(Moment(step.index, *level, small))

    def trajectory(self, owner: Model) -> Trajectory:
        """What was recorded, for the model that can decode it."""
        return Trajectory(self._total, tuple(self._moments), weakref.ref(owner))

    def _names(self, count: int) -> list[str]:
        """What the conditions of the task are called, in their order."""
        last = ["class"] * isinstance(self._task, ClassConditional)
        last += ["image"] * (self._task.image_prompt is not None and self._task.image_prompt_scale != 0)
        names = ["prompt", *(f"prompt {number}" for number in range(2, count + 1))]
        return [*names[: max(0, count - len(last))], *last]

    def _views(
        self,
        x: Tensor,
        t: float,
        answers: Mapping[int, Tensor],
        base: int,
        names: Mapping[int, str],
        weights: Mapping[int, float],
    ) -> dict[str, Tensor]:
        """What was given, and where a base was asked beside conditions, what each answer means."""
        if base not in answers or len(answers) == 1:
            return {NOISY: x}
        from modules.diffusion.parameterization import to_x0

        noise = self._model.noise_schedule
        alpha, sigma = noise.level_at(t)
        means = {
            names.get(which, WITHOUT): to_x0(noise.prediction_type, answer, x, alpha, sigma)
            for which, answer in answers.items()
        }
        added = sum(weights[which] * (answers[which] - answers[base]) for which in answers if which != base)
        return {NOISY: x, **means, HEAT: added.square().mean(1).sqrt()}  # type: ignore[union-attr]

    def _small(self, latents: Tensor, name: str) -> Tensor:
        """Latents in half precision, at most 256 pixels a side once decoded.

        Noise is thinned out rather than averaged, which would quieten it.
        """
        import torch
        import torch.nn.functional as F

        longest = max(latents.shape[-2:])
        shrink = max(1, math.ceil(longest * self._model.factor / SIDE))
        if shrink > 1 and name == NOISY:
            rows, columns = (side // shrink * shrink for side in latents.shape[-2:])
            latents = latents[..., :rows:shrink, :columns:shrink]
        elif shrink > 1 and name == HEAT:
            latents = F.avg_pool2d(latents[:, None].float(), shrink)[:, 0]
        elif shrink > 1:
            latents = F.avg_pool2d(latents.float(), shrink)
        return latents.clamp(-60_000, 60_000).to("cpu", torch.float16, copy=True)


def fingerprint(picture: Image.Image) -> str:
    """A name for exactly these pixels."""
    size = "{}x{}:".format(*picture.size).encode()
    return hashlib.sha256(size + picture.convert("RGB").tobytes()).hexdigest()


def heat_map(values: np.ndarray) -> Image.Image:
    """Values from 0 to 1, (H, W), as colours from dark to bright, each a square."""
    at = np.clip(values, 0, 1) * (len(HEATS) - 1)
    colours = [np.interp(at, np.arange(len(HEATS)), HEATS[:, channel]) for channel in range(3)]
    return _large(Image.fromarray(np.stack(colours, -1).round().astype(np.uint8)), Image.Resampling.NEAREST)


def _decoded(latents: Tensor, model: Model) -> tuple[Image.Image, ...]:
    from modules.images import to_pil

    return tuple(_large(each, Image.Resampling.BILINEAR) for each in to_pil(model.decode(latents.float())))


def _large(picture: Image.Image, how: Image.Resampling) -> Image.Image:
    scale = SIDE / max(picture.size)
    if scale == 1:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how)


def _with_one(latents: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W, C + 1), the last number 1."""
    import torch

    values = latents.float().movedim(1, -1)
    return torch.cat([values, torch.ones_like(values[..., :1])], -1)
