"""An engine without torch, for fast page tests: the Engine's face, true schedule levels, drawn pictures."""

from __future__ import annotations

import math
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modules import tasks
from modules.engine.forecast import Forecast
from modules.engine.history import History
from modules.engine.shelf import Shelf
from modules.engine.studio import Engine
from modules.engine.trajectory import Trajectories
from modules.models.catalog import ModelCard
from modules.models.tokens import TokenCount
from modules.presets.own import Own
from modules.settings import Settings
from modules.tasks import Limits, Task, TaskError
from tests.ui import fake_steps

PAIRS = {
    "DDPM": ["default", "trailing"],
    "DDIM": ["default", "trailing", "zero_snr"],
    "Euler": ["default", "trailing", "karras", "exponential"],
    "Euler a": ["default", "trailing"],
    "LCM": ["default"],
    "DPM++ 2M": ["default", "trailing", "karras", "exponential"],
}
CLASSES = ["apple", "balloon", "car", "cat face", "heart", "pizza", "rocket", "smiling face", "star"]
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
ALPHAS_CUMPROD = np.cumprod(1 - BETAS)


@dataclass(frozen=True)
class Step:
    """One step, as the engine yields it."""

    index: int
    total: int
    t: float
    alpha: float
    sigma: float
    snr: float
    latents: Any = None
    predicted_x0: Any = None
    guidance_norm: float = 0.0


@dataclass(frozen=True)
class Result:
    """The pictures and what is known of them."""

    images: tuple[Image.Image, ...]
    info: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card(ModelCard):
    """A model as the catalogue knows it."""

    id: str = "pocket"
    title: str = "Pocket (a stand-in)"
    folder: Path = Path("assets/pocket")
    family: str = "pocket"
    tasks: tuple[str, ...] = ("text_to_image", "class_conditional", "inpaint", "image_to_image")
    limits: Mapping[str, Limits] = field(
        default_factory=lambda: {"width": Limits(128, 512, 64), "height": Limits(128, 512, 64)}
    )
    controls: tuple[str, ...] = ()


CONTROLLED = Card(tasks=(*Card.tasks, "controlnet"), controls=("pose", "depth", "canny"))
"""A card for the tests that need ControlNets."""

EDITING = Card(tasks=(*Card.tasks, "instruct_edit"))
"""A card for the tests that edit by instruction."""


def levels(alphas_cumprod: np.ndarray, t: np.ndarray) -> dict[str, list[float]]:
    """The contract's five columns for these levels."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    columns = {
        "t": t,
        "alpha": np.sqrt(alphas_cumprod),
        "sigma": np.sqrt(1 - alphas_cumprod),
        "snr": snr,
        "log_snr": np.log(snr),
    }
    return {name: np.asarray(values, dtype=np.float64).tolist() for name, values in columns.items()}


def visited(spacing: str, steps: int) -> dict[str, list[float]]:
    """Levels on the grid of `spacing`, from noise to picture."""
    ratio = np.sqrt((1 - ALPHAS_CUMPROD) / ALPHAS_CUMPROD)
    if spacing in ("karras", "exponential"):
        share = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
        if spacing == "karras":
            walk = (ratio[-1] ** (1 / 7) * (1 - share) + ratio[0] ** (1 / 7) * share) ** 7
        else:
            walk = np.exp(np.log(ratio[-1]) * (1 - share) + np.log(ratio[0]) * share)
        t = np.interp(np.log(walk), np.log(ratio), np.arange(1000))
        return levels(1 / (1 + walk**2), t)
    last = 999 if spacing == "trailing" else 999 - 1000 // steps + 1
    t = np.linspace(last, last % max(1, 1000 // steps), steps).round().astype(int)
    return levels(ALPHAS_CUMPROD[t], t)


@dataclass
class FakeEngine:
    """The Engine contract: starts after `warm_up` seconds, takes `pace` seconds a step."""

    warm_up: float = 0.0
    pace: float = 0.02
    breaks: Exception | None = None
    runs: list[Task] = field(default_factory=list)
    closed: int = 0
    running: int = 0
    most_running: int = 0
    default_model: str = "pocket"
    wearable: list[tuple[str, str]] = field(default_factory=list)
    sighted: bool = False
    settings: Settings = field(default_factory=Settings)
    catalog: dict[str, Card] = field(default_factory=lambda: {"pocket": Card()})

    def __post_init__(self) -> None:
        self._ready_at = math.inf
        self._lock = threading.Lock()
        folder = Path(tempfile.mkdtemp(prefix="epsilon-test-"))
        self.history = History(folder)
        self.shelf = Shelf(self.catalog, folder)
        self.catalog = self.shelf.here
        self.own = Own(folder / "presets")
        self.trajectories = Trajectories()

    def start(self) -> None:
        """Begins to warm up."""
        self._ready_at = time.monotonic() + self.warm_up

    def status(self) -> tuple[bool, str]:
        """Whether a run would start now, and a sentence for the page."""
        if time.monotonic() >= self._ready_at:
            return True, "Pocket is ready on the CPU."
        return False, "Warming up: loading Pocket…"

    def count_tokens(self, prompt: str, model: str | None = None) -> TokenCount:
        """One token a word; eight windows of thirty, as Pocket has."""
        if "(:99)" in prompt:
            raise TaskError("prompt", "A weight in the prompt is 99; it must be from -20 to 20.")
        words = prompt.split()
        windows = min(8, max(1, math.ceil(len(words) / 30)))
        return TokenCount(min(len(words), 240), 30 * windows, windows, " ".join(words[240:]))

    def forecast(self, task: Task) -> Forecast:
        """What the fake itself takes, once it has run."""
        return Forecast(seconds=self.pace * task.steps if self.runs else None)

    def samplers(self, model: str | None = None) -> list[str]:
        """Their names."""
        return list(PAIRS)

    def spacings(self, sampler: str, model: str | None = None) -> list[str]:
        """Those possible with a sampler."""
        return PAIRS[sampler]

    def most_steps(self, sampler: str, model: str | None = None) -> int:
        """The largest number of steps that a sampler can take."""
        return 50 if sampler == "LCM" else 1000

    def limits(self, kind: type[Task], field: str, model: str | None = None) -> Limits:
        """The limits of a field, here."""
        return tasks.limits(kind, field, self.catalog[model or self.default_model].limits)

    def default(self, kind: type[Task], field: str, model: str | None = None) -> Any:
        """The value that a field starts with."""
        return self.card(model or self.default_model).defaults.get(field, tasks.default(kind, field))

    def card(self, model: str) -> ModelCard:
        """A model's card."""
        return self.catalog[model]

    def save(self, result: Result, owner: str = "") -> list[Path]:
        """Writes the pictures as the real engine does."""
        return [self.history.add(image, result.info, i, owner) for i, image in enumerate(result.images)]

    def classes(self, model: str = "pocket") -> list[str]:
        """The classes of the model."""
        return CLASSES

    def adapters(self) -> list[tuple[str, str]]:
        """LoRAs and embeddings to add to a prompt."""
        return self.wearable

    def sees(self, model: str) -> bool:
        """Whether the model takes a picture as a prompt."""
        return self.sighted

    def controls(self, model: str = "pocket") -> list[str]:
        """The control types of the model."""
        return list(self.catalog[model].controls)

    poses, skeleton, read_pose = Engine.poses, Engine.skeleton, Engine.read_pose
    write_pose, draw_pose = Engine.write_pose, Engine.draw_pose
    control_map, control_maps = Engine.control_map, Engine.control_maps
    stage, draw_shapes = Engine.stage, Engine.draw_shapes

    def snr_curve(
        self,
        sampler: str,
        schedule: str,
        steps: int,
        model: str | None = None,
        strength: float = 1.0,
        width: int | None = None,
        height: int | None = None,
    ) -> dict[str, Any]:
        """Training grid and visited levels."""
        if sampler not in PAIRS:
            raise TaskError("sampler", f"sampler is {sampler!r}; it must be one of {', '.join(PAIRS)}.")
        if schedule not in PAIRS[sampler]:
            possible = ", ".join(PAIRS[sampler])
            raise TaskError("schedule", f"{sampler} has no spacing {schedule!r}; it has {possible}.")
        late = steps - max(1, int(steps * strength + 1e-9))
        walk = {name: column[late:] for name, column in visited(schedule, steps).items()}
        return {"train": levels(ALPHAS_CUMPROD, np.arange(1000)), "visited": walk}

    def run(self, task: Task) -> Iterator[Step | Result]:
        """Steps at real levels, then drawn pictures; the seed decides the drawing."""
        strength = getattr(task, "strength", 1.0)
        walk = self.snr_curve(task.sampler, task.schedule, task.steps, strength=strength)["visited"]
        if task.model not in self.catalog or task.kind not in self.catalog[task.model].tasks:
            raise TaskError("model", f"No model that is installed here can serve {task.kind} yet.")
        if getattr(task, "class_name", "apple") not in CLASSES:
            raise TaskError("class_name", f"class_name is {task.class_name!r}; it is not a class of Pocket.")
        if getattr(task, "image", True) is None:
            raise TaskError("image", "image is missing: choose the picture to start from.")
        if isinstance(task, tasks.Controlled):
            self.control_maps(task)
        return self._run(task, walk)

    check, explore = run, Engine.explore

    def model_hash(self, model: str) -> str:
        """The hash that every picture tells."""
        return "0123456789abcdef"

    def _run(self, task: Task, walk: dict[str, list[float]]) -> Iterator[Step | Result]:
        seed = task.seed if task.seed >= 0 else random.getrandbits(53)
        done = False
        with self._lock:
            self.runs.append(task)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            begun, steps = time.monotonic(), list[Step]()
            try:
                for i in range(len(walk["t"])):
                    time.sleep(self.pace)
                    if self.breaks is not None and i == 2:
                        raise self.breaks
                    clean = 1 - i / len(walk["t"])
                    picture = drawing(seed, task.width, task.height, clean)
                    columns = {name: walk[name][i] for name in ("t", "alpha", "sigma", "snr")}
                    steps.append(Step(i, len(walk["t"]), **columns, predicted_x0=picture))
                    yield steps[-1]
                seeds = [seed + i for i in range(task.batch_size)]
                info = task.scalars() | {
                    "kind": task.kind,
                    "seed": seed,
                    "seeds": seeds,
                    "model_hash": "0123456789abcdef",
                    "timesteps": walk["t"],
                    **{name: walk[name] for name in ("alpha", "sigma", "snr", "log_snr")},
                    "seconds": time.monotonic() - begun,
                    "words_cut": 0,
                    "versions": {"epsilon_studio": "0", "python": "3"},
                }
                images = tuple(drawing(s, task.width, task.height, 0) for s in seeds)
                guided = bool(task.prompt) and task.guidance_scale != 1
                self.trajectories.keep(fake_steps.FakeTrajectory.of(steps, guided), images)
                yield Result(images, info)
                done = True
            finally:
                self.running -= 1
                self.closed += not done

    def conformance(self, sampler: str, schedule: str) -> list[dict[str, float]]:
        """How near a sampler comes to the truth."""
        return fake_steps.conformance(sampler, schedule)

    def script(self, info: Mapping[str, Any], index: int = 0) -> str:
        """What stands for a script of plain diffusers."""
        return f"import torch\nprompt, seed = {info['prompt']!r}, {info['seeds'][index]}\n"

    def preview(self, step: Step) -> Image.Image:
        """The picture so far."""
        return step.predicted_x0.resize((256, 256))


def drawing(seed: int, width: int, height: int, noise: float) -> Image.Image:
    """A disc whose place and colour the seed decides, under a share of noise."""
    source = random.Random(seed)
    hue = [source.uniform(0.25, 0.95) for _ in range(3)]
    cx, cy = source.uniform(0.35, 0.65), source.uniform(0.35, 0.65)
    y, x = np.mgrid[0:height, 0:width]
    near = np.hypot(x / width - cx, y / height - cy)
    disc = np.clip((0.28 - near) * 40, 0, 1)[..., None]
    shade = 1 - 0.5 * np.clip(np.hypot(x / width - cx + 0.1, y / height - cy + 0.1) * 2, 0, 1)[..., None]
    pixels = 0.96 * (1 - disc) + disc * np.array(hue) * shade
    speckle = np.random.default_rng(seed % 2**32).uniform(0, 1, pixels.shape)
    return Image.fromarray(((pixels * (1 - noise) + speckle * noise) * 255).astype(np.uint8))
