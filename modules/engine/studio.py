"""The studio keeps the catalogue, loads models behind the page, lets one job at a time paint, saves pictures.

Nothing heavy is imported before `start()` or the first job: the page is up long before torch is.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from modules import tasks
from modules.conditions import emphasis, tags
from modules.engine import curves, grids
from modules.engine.forecast import Forecast, Forecaster
from modules.engine.history import History
from modules.engine.shelf import Shelf
from modules.engine.trajectory import Trajectories
from modules.images import open_picture
from modules.models.catalog import ModelCard
from modules.models.wardrobe import Wardrobe, no_sight
from modules.presets import wildcards
from modules.presets.own import Own
from modules.settings import Settings
from modules.tasks import (
    ClassConditional,
    Controlled,
    ImageToImage,
    Inpaint,
    InstructEdit,
    Limits,
    Task,
    TaskError,
    TextToImage,
)

if TYPE_CHECKING:
    from modules.conditions.control import ControlMap
    from modules.conditions.pose import Person
    from modules.diffusion.sampling import Step
    from modules.engine.generation import Result
    from modules.engine.grids import Grid
    from modules.engine.sheets import Sheet
    from modules.models.latent import LatentModel
    from modules.models.tokens import TokenCount

log = logging.getLogger(__name__)

PREVIEW_SIDE = 256


class Engine:
    """Everything that the page and the API may ask for; safe to call from many threads.

    CatalogueError if the settings name a model that is not there.
    """

    def __init__(self, settings: Settings, catalog: Mapping[str, ModelCard] | None = None):
        self.settings = settings
        shared = settings.public or settings.where != "local"
        self.shelf = Shelf(catalog, settings.models, locked=shared)
        self.catalog = self.shelf.here
        self.default_model = self.shelf.begin_with(settings.model)
        self.history = History(settings.output_dir, shared=shared)
        self.trajectories = Trajectories()
        self.wardrobe = Wardrobe(settings.adapters)
        self.forecaster = Forecaster(settings.output_dir)
        self.own = Own(settings.output_dir / "presets")
        self._painting = threading.Lock()
        self._loading = threading.Lock()
        self._model: LatentModel | None = None
        self._trouble = ""
        self._thread: threading.Thread | None = None
        if settings.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"

    def notes(self) -> tuple[str, ...]:
        """Sentences for whoever started the studio: which model was meant and is not here."""
        asked = self.shelf.asked
        if not asked:
            return ()
        known = asked in self.shelf.cards
        why = self.shelf.why_not(asked) if known else f"{asked} is not on this machine; the page offers it."
        return (f"{why} Until then {self.catalog[self.default_model].title} paints.",)

    def start(self) -> None:
        """Load the model and mend the history in the background, once; `status()` says how it goes."""
        self.history.start()
        if self._thread is None:
            self._thread = threading.Thread(target=self._warm_up, name="loading the model", daemon=True)
            self._thread.start()

    def status(self) -> tuple[bool, str]:
        """Whether a picture can be made at once, and a sentence: what runs where, or what is wrong."""
        model, title = self._model, self.catalog[self.default_model].title
        if model is not None:
            return True, what_runs_where(model)
        if self._trouble:
            return False, self._trouble
        if self._thread is None:
            return False, f"{title} is loaded when the first picture is asked for."
        return False, f"{title} is being loaded; this takes some seconds."

    def run(self, task: Task) -> Iterator[Step | Result]:
        """Check the task now, then paint it: Steps, and at last one Result.

        Waits for its model and for the job before it. Closing the iterator stops at once and lets the next
        job in. TaskError if the task cannot be served; LoadError or GenerationError, in words, if it fails.
        """
        self.check(task)
        return self._painted(task)

    def explore(self, grid: Grid, owner: str = "") -> Iterator[Step | Sheet | Result]:
        """Check every cell of a grid now, then paint it, from where this owner's same grid stopped before.

        Yields a Sheet at the start and after every picture, Steps between, and at last one Result; waits,
        stops and fails as `run`.
        """
        for cell in grid.cells:
            self.check(cell)
        return grids.explore(self, grid, owner)

    def check(self, task: Task) -> None:
        """TaskError, with a sentence, unless model, sampler and this studio's limits allow the task."""
        card = self.card(task.model)
        card.check(task)
        tasks.check(task, card.limits, f"{card.title} takes")
        tasks.check(task, self.settings.limits, f"this {self.settings.place} takes")
        curves.noise_for(card, task, getattr(task, "strength", 1.0))
        for name in wildcards.TASK_FIELDS:  # refuses a wildcard without a list, and a weight beyond reason
            emphasis.parse(wildcards.resolved(getattr(task, name), task.seed, name))
        self.wardrobe.check(wildcards.resolve(task), card)
        if task.image_prompt is not None and task.image_prompt_scale != 0:
            open_picture(task.image_prompt)
            if not self.sees(task.model):
                raise TaskError("image_prompt", no_sight(card.title))
        if isinstance(task, ImageToImage | Inpaint | InstructEdit):
            from modules.engine.canvas import opened

            opened(task)  # a picture that cannot be worked on is refused before the job waits for its turn
        if isinstance(task, ClassConditional) and task.class_name not in (names := card.classes()):
            raise TaskError("class_name", tasks.not_one_of("class_name", task.class_name, names))
        if isinstance(task, Controlled):
            self.control_maps(task)

    def card(self, model: str) -> ModelCard:
        """A model's card; TaskError if there is no such model."""
        if model not in self.catalog and model in self.shelf.cards:
            raise TaskError("model", self.shelf.why_not(model))
        if model not in self.catalog:
            raise TaskError("model", tasks.not_one_of("model", model, list(self.catalog)))
        return self.catalog[model]

    def model_hash(self, model: str) -> str:
        """The hash of a model's weights, as the pictures tell it; LoadError if they are not whole."""
        from modules.models.files import fingerprint_of

        card, loaded = self.card(model), self._model
        return loaded.hash if loaded is not None and loaded.card == card else fingerprint_of(card)

    def classes(self, model: str) -> list[str]:
        """The classes that a model knows by name."""
        return self.card(model).classes()

    def controls(self, model: str) -> list[str]:
        """The control types that a model has a ControlNet for."""
        return list(self.card(model).controls)

    def control_maps(self, task: Controlled) -> dict[str, ControlMap]:
        """Every map that the task asks for, by the ending of its fields' names; TaskError as control_map."""
        from modules.conditions.control import maps_of

        return maps_of(task)

    def adapters(self) -> list[tuple[str, str]]:
        """What there is to add to a prompt: each LoRA and embedding in words, and what to write for it."""
        return self.wardrobe.offers()

    def sees(self, model: str) -> bool:
        """Whether a model has an IP-Adapter, and so can take a picture as a prompt."""
        return self.wardrobe.sight(self.card(model)) is not None

    def control_map(self, task: Controlled) -> ControlMap:
        """The map that the task's ControlNet will see; TaskError, in words, where its picture gives none."""
        from modules.conditions.control import map_of

        return map_of(task)

    def poses(self) -> dict[str, Person]:
        """The named poses, each one person."""
        from modules.conditions.pose import named_poses

        return named_poses()

    def skeleton(self) -> dict[str, Any]:
        """How a person is drawn: the names of the keypoints, the limbs between them, and the colours."""
        from modules.conditions.pose import COLOURS, KEYPOINTS, LIMB_SHADE, LIMBS, STROKE

        parts = {"keypoints": KEYPOINTS, "limbs": LIMBS, "colours": COLOURS}
        return parts | {"shade": LIMB_SHADE, "stroke": STROKE}

    def read_pose(self, source: str) -> tuple[Person, ...]:
        """The people in a JSON text, ours or OpenPose's; PoseError, in words, for anything else."""
        from modules.conditions.pose import from_json

        return from_json(source)

    def write_pose(self, people: Sequence[Person], width: int, height: int) -> str:
        """The people as OpenPose's JSON."""
        from modules.conditions.pose import to_json

        return to_json(people, width, height)

    def draw_pose(self, people: Sequence[Person], width: int, height: int) -> Image.Image:
        """The people as the skeletons that a pose ControlNet sees."""
        from modules.conditions.pose import draw

        return draw(people, width, height)

    def stage(self) -> dict[str, Any]:
        """What shapes stand on, where the wall begins and how near it is, and the reach of their sizes."""
        from modules.conditions.depth import FAR, HORIZON, LARGEST, SHAPES, SMALLEST

        return {"horizon": HORIZON, "far": FAR, "shapes": SHAPES, "sizes": (SMALLEST, LARGEST)}

    def draw_shapes(self, shapes: Any, width: int, height: int) -> Image.Image:
        """The depth map of shapes given as parsed JSON; ShapeError, in words, for anything else."""
        from modules.conditions.depth import draw_shapes, shapes_of

        return draw_shapes(shapes_of(shapes), width, height)

    def limits(self, kind: type[Task], field: str, model: str | None = None) -> Limits:
        """The limits of a field for a model on this studio; what the form's sliders show."""
        found = tasks.limits(kind, field, self.card(model or self.default_model).limits, self.settings.limits)
        if field in ("width", "height") and "pixels" in self.settings.limits:
            across = int(self.settings.limits["pixels"].maximum // found.minimum // found.step * found.step)
            return found._replace(maximum=min(found.maximum, across))
        return found

    def default(self, kind: type[Task], field: str, model: str | None = None) -> Any:
        """The value that a field starts with for a model."""
        if field == "model":
            return model or self.default_model
        return self.card(model or self.default_model).defaults.get(field, tasks.default(kind, field))

    def count_tokens(self, prompt: str, model: str | None = None) -> TokenCount | None:
        """How a prompt fits a model's text encoder, wildcards drawn as by seed 0; None if that is not known.

        No weights are read. TaskError, with a sentence, for a prompt that cannot be used at all.
        """
        from modules.models.tokens import count_tokens

        words = tags.words(wildcards.resolved(prompt, 0))
        return count_tokens(self.card(model or self.default_model), words, self.wardrobe.lengths())

    def samplers(self, model: str | None = None) -> list[str]:
        """The names of the samplers that can walk a model's noise."""
        return list(curves.samplers(self.card(model or self.default_model)))

    def spacings(self, sampler: str, model: str | None = None) -> list[str]:
        """The names of the spacings that a sampler can walk; TaskError if the model has no such sampler."""
        return list(curves.sampler(self.card(model or self.default_model), sampler).spacings)

    def most_steps(self, sampler: str, model: str | None = None) -> int:
        """The largest number of steps that a sampler can take; TaskError as `spacings`."""
        return curves.most_steps(self.card(model or self.default_model), sampler)

    def snr_curve(
        self,
        sampler: str,
        schedule: str,
        steps: int,
        model: str | None = None,
        strength: float = 1.0,
        width: int | None = None,
        height: int | None = None,
    ) -> dict[str, dict[str, list[float]]]:
        """The levels of the training grid ("train") and those that would be visited; no model is loaded.

        Each holds lists t, alpha, sigma, snr and log_snr. Some models spread their steps by the picture's
        size, by default their own. A model that is not here yet has the curve that its card tells. TaskError
        for values that make no sense.
        """
        card = self.shelf.cards.get(model or "") or self.card(model or self.default_model)
        asked: dict[str, Any] = {"width": width, "height": height}
        given = {name: value for name, value in asked.items() if value is not None}
        task = TextToImage(sampler=sampler, schedule=schedule, steps=steps, model=card.id, **given)
        size = given.get("width", card.width), given.get("height", card.height)
        return curves.curve(card, task, tasks.Inpaint(strength=strength).strength, size)

    def conformance(self, sampler: str, schedule: str) -> list[dict[str, float]]:
        """The spread to which a sampler brings N(0, 0.5^2), by numbers of steps; TaskError if it cannot.

        Each entry has "steps", "calls" and "std": see diffusion.conformance.
        """
        from modules.diffusion.conformance import approach

        try:
            return approach(sampler, schedule)
        except ValueError as error:
            raise TaskError("schedule", str(error)) from error

    def script(self, info: Mapping[str, Any], index: int = 0) -> str:
        """The script of plain diffusers that makes a picture again; ScriptError where there can be none."""
        from modules.engine.script import script

        return script(info, self.card(info["model"]), index)

    def preview(self, step: Step) -> Image.Image:
        """What the network has in mind at a step: the batch's first picture, 256 pixels on its long side."""
        from modules.images import to_pil

        if self._model is None:
            raise RuntimeError("A preview needs the model that made the step.")
        picture = to_pil(self._model.preview(step.predicted_x0[:1]))[0]
        scale = PREVIEW_SIDE / max(picture.size)
        if scale == 1:
            return picture
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture.resize(size, Image.Resampling.BILINEAR)

    def forecast(self, task: Task) -> Forecast:
        """What a task will cost here, as far as its model was ever measured; nothing is loaded."""
        model = self._model if self._model is not None and self._model.card.id == task.model else None
        place = self.forecaster.measurements.latest(
            task.model,
            str(model.device) if model else self.settings.device,
            str(model.dtype).removeprefix("torch.") if model else self.settings.dtype,
        )
        return self.forecaster.of(task, place, loaded=model is not None)

    def save(self, result: Result, owner: str = "") -> list[Path]:
        """Write every picture of a result, recipe inside, into this owner's history; the files in order."""
        if self.settings.keep_seconds is not None:
            self.history.sweep(self.settings.keep_seconds)
        return [self.history.add(picture, result.info, i, owner) for i, picture in enumerate(result.images)]

    def _painted(self, task: Task) -> Iterator[Step | Result]:
        from modules.engine.rescue import rescued, rung_for
        from modules.models.adapters import undressed_after

        with self._painting, undressed_after(self._model_for(task.model)) as model:
            rung = rung_for(task, lambda smaller: self.forecast(smaller).fits)
            paint = functools.partial(self.trajectories.recorded, owner=model)
            yield from self.forecaster.watched(model, task, rescued(model, task, rung, paint))

    def _model_for(self, name: str) -> LatentModel:
        """The model of that name, loaded if it is not the one in memory, which it then replaces."""
        with self._loading:
            if self._model is None or self._model.card != self.card(name):
                self._model, self._trouble = None, ""
                try:
                    self._model = self._loaded(name)
                except Exception as error:
                    self._trouble = str(error)
                    raise
            return self._model

    def _loaded(self, name: str) -> LatentModel:
        from modules.models.adapters import dressing
        from modules.models.devices import remark
        from modules.models.files import LoadError
        from modules.models.loading import load, set_threads

        set_threads()
        try:
            model = load(self.catalog[name], self.settings.device, self.settings.dtype)
            if said := remark(model.device, model.dtype):
                log.warning(said)
            return dressing(model, self.wardrobe)
        except LoadError:
            raise
        except Exception as error:
            raise LoadError(f"{self.catalog[name].title} could not be loaded: {error}") from error

    def _warm_up(self) -> None:
        from modules.diffusion.schedule import rehearsed

        with contextlib.suppress(RuntimeError):  # a LoadError; status() tells it, and the page stays up
            noise = self._model_for(self.default_model).noise_schedule
            for _ in rehearsed(noise):
                with self._painting:  # whoever asked for a picture comes first
                    pass


def what_runs_where(model: LatentModel) -> str:
    """One sentence, or two where a GPU would help, on which model runs on what."""
    import torch

    from modules.models import devices, offload

    dtype, title = str(model.dtype).removeprefix("torch."), model.card.title
    if model.device.type != "cpu":
        name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
        held = offload.told(model)
        return f"{title} on {name} ({dtype}{'; ' if held else ''}{held})."
    threads = torch.get_num_threads()
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    advice = devices.remark(model.device, model.dtype) or "For larger models use a GPU: --device cuda."
    return f"{title} on the CPU ({count}, {dtype}). {advice}"
