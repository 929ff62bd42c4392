"""A Task and a model become Steps and then a Result here; a seed becomes noise here and nowhere else."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from PIL import Image

import modules
from modules.diffusion.editing import image_to_image, inpainted
from modules.diffusion.guidance import Denoiser, Network, guided
from modules.diffusion.sampling import Step, sample
from modules.diffusion.schedule import Scheduler, make_scheduler, visited_levels
from modules.engine.canvas import Canvas, Edit, prepare
from modules.images import open_picture, to_pil, to_tensor
from modules.models.conditioning import Conditions, Scene
from modules.models.pipelines import Model
from modules.presets import wildcards
from modules.tasks import LARGEST_SEED, ImageToImage, Inpaint, InstructEdit, Task

DRAWN_SEEDS = 2**53
"""Seeds are drawn below this: every JSON reader, JavaScript's included, gives them back to the last digit."""


class GenerationError(RuntimeError):
    """A picture that could not be made; the message is a sentence for the user."""


class BrokenPicture(GenerationError):
    """Latents or pixels that are no picture: not numbers, or one value all over."""


class Visited(NamedTuple):
    """What is kept of a Step once it is shown: its level, and how strong guidance was."""

    t: float
    alpha: float
    sigma: float
    snr: float
    guidance_norm: float


@dataclass(frozen=True)
class Result:
    """The finished pictures, and `info`: plain JSON that holds everything needed to repeat them."""

    images: tuple[Image.Image, ...]
    info: dict[str, Any]


Witness = Callable[[Network, Conditions], Network]


def nobody(predict: Network, _: Conditions) -> Network:
    """The network itself."""
    return predict


def generate(model: Model, task: Task, witness: Witness = nobody) -> Iterator[Step | Result]:
    """Walk from noise to pictures, yielding a Step a network call and at last one Result.

    Seed -1 draws one. `witness` may wrap the network, to see what it is asked and what it answers. Closing
    the iterator stops at once, undecoded. BrokenPicture if the latents or the pictures stop being numbers or
    are blank; TaskError for a class that the model lacks.
    """
    watch, task = Stopwatch(), seeded(task)
    # Wildcards are drawn here: the page, the API and every job come through, the seed is known at last, and
    # a batch has one prompt. The info then holds the words painted, which, with the seed, repeat the picture.
    asked, task = task, wildcards.resolve(task)
    seeds = seeds_of(task)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    canvas = prepare(task) if isinstance(task, Edit) else None
    scene = _scene(model, task, canvas)
    # The size asked for, which the panel knows too; an edited picture's own has about as many pixels.
    noise_schedule = model.noise_schedule.at(task.width, task.height)
    scheduler = make_scheduler(task.sampler, task.schedule, noise_schedule)
    levels = visited_levels(task.sampler, task.schedule, task.steps, noise_schedule)
    conditions = model.conditions(task, levels.t.tolist(), scene)
    predict = witness(functools.partial(model.predict, controls=conditions.controls), conditions)
    denoise = guided(
        predict,
        conditions.base,
        conditions.weighted,
        rescale=conditions.rescale,
        timesteps=len(noise_schedule),
    )
    way = WAYS.get(task.kind, _from_noise)(model, task, canvas, generators, denoise, scheduler)
    latents, visited = torch.empty(0), list[Visited]()
    for step in way.steps:
        latents = _numbers(step.latents, model, f"after step {step.index + 1} of {step.total}")
        visited.append(Visited(step.t, step.alpha, step.sigma, step.snr, step.guidance_norm))
        with watch.paused():
            yield step
    _picture(latents, model, "in the network")
    # One by one: a decoder needs far more memory than the network, and gains nothing from company.
    decoded = (_picture(model.decode(one), model, "in the decoder") for one in latents.split(1))
    pictures = tuple(way.finish(picture) for pixels in decoded for picture in to_pil(pixels))
    info = _info(model, task, seeds, visited, conditions.words_cut, watch.seconds())
    more = {"size": list(pictures[0].size), **way.facts, **conditions.record, **templates(asked, task)}
    yield Result(pictures, info | more)


class Way(NamedTuple):
    """How one kind of task is walked: its steps, what happens to a decoded picture, what the info adds."""

    steps: Iterator[Step]
    finish: Callable[[Image.Image], Image.Image]
    facts: Mapping[str, Any]


def _scene(model: Model, task: Task, canvas: Canvas | None) -> Scene:
    """Where a task is painted, and what of its picture a network with more channels reads beside."""
    if canvas is None:
        return Scene(task.width, task.height)
    return Scene(*canvas.size, BESIDE[task.kind](model, canvas) if model.channels_beside else None)


def _mask_and_rest(model: Model, canvas: Canvas) -> torch.Tensor:
    """The mask, and what it spares: what is to be repainted is grey before it is encoded."""
    spared = to_tensor(canvas.laid()) * torch.from_numpy(~canvas.mask())
    rest = model.encode(spared).cpu()
    return torch.cat([torch.from_numpy(canvas.latent_mask(model.factor)), rest], dim=1)


BESIDE: dict[str, Callable[[Model, Canvas], torch.Tensor]] = {
    Inpaint.kind: _mask_and_rest,
    InstructEdit.kind: lambda model, canvas: model.encode_raw(to_tensor(canvas.laid())),
}


def _from_noise(
    model: Model,
    task: Task,
    canvas: Canvas | None,
    generators: list[torch.Generator],
    denoise: Denoiser,
    scheduler: Scheduler,
) -> Way:
    size = canvas.size if canvas else (task.width, task.height)
    start = varied(task, noise(generators, model.latent_shape(*size)))
    steps = sample(denoise, scheduler, start, task.steps, generators=generators)
    if canvas is None:
        return Way(steps, lambda picture: picture, {})
    return Way(steps, canvas.finished, {"edited": _fingerprints(task)})


def _inpaint(
    model: Model,
    task: Inpaint,
    canvas: Canvas,
    generators: list[torch.Generator],
    denoise: Denoiser,
    scheduler: Scheduler,
) -> Way:
    """A network that reads the mask fills it from nothing but noise, as it learned to; others are led."""
    way = _from_noise if model.channels_beside and task.strength == 1 else _from_picture
    return way(model, task, canvas, generators, denoise, scheduler)


def _from_picture(
    model: Model,
    task: ImageToImage | Inpaint,
    canvas: Canvas,
    generators: list[torch.Generator],
    denoise: Denoiser,
    scheduler: Scheduler,
) -> Way:
    shape = model.latent_shape(*canvas.size)
    unit = varied(task, noise(generators, shape))
    latents = model.encode(to_tensor(canvas.laid())).to(unit).expand_as(unit)
    # At strength 1 and from noise nothing is left of the picture under the mask, as in diffusers. Of blurred
    # surroundings a tint is, by which the seam is cleaner: look at pictures before this changes.
    afresh = isinstance(task, Inpaint) and (task.strength, task.start_from) == (1, "noise")
    if isinstance(task, Inpaint):
        mask = torch.from_numpy(canvas.latent_mask(model.factor))
        if not model.channels_beside:
            denoise = inpainted(denoise, latents, mask, unit, model.noise_schedule)
        if task.start_from == "noise" and not afresh:
            latents = torch.lerp(latents, noise(generators, shape), mask)
    if afresh:
        steps = sample(denoise, scheduler, unit, task.steps, generators=generators)
    else:
        steps = image_to_image(
            denoise, scheduler, latents, unit, task.steps, strength=task.strength, generators=generators
        )
    return Way(steps, canvas.finished, {"edited": _fingerprints(task)})


WAYS: dict[str, Callable[[Model, Any, Any, list[torch.Generator], Denoiser, Scheduler], Way]] = {
    ImageToImage.kind: _from_picture,
    Inpaint.kind: _inpaint,
}


def seeded(task: Task) -> Task:
    """The task with every seed that it needs: its own, or one that is drawn."""
    wanted = ["seed", "variation_seed"] if task.variation_strength else ["seed"]
    drawn = {name: secrets.randbelow(DRAWN_SEEDS) for name in wanted if getattr(task, name) < 0}
    return dataclasses.replace(task, **drawn)


def seeds_of(task: Task) -> list[int]:
    """The seed of each picture of a batch."""
    return [(task.seed + i) % (LARGEST_SEED + 1) for i in range(task.batch_size)]


def templates(asked: Task, painted: Task) -> dict[str, str]:
    """The prompts as they were asked for, where a wildcard or a choice in them was drawn."""
    texts = {name: getattr(asked, name) for name in wildcards.TASK_FIELDS}
    return {f"{name}_template": text for name, text in texts.items() if text != getattr(painted, name)}


def _fingerprints(task: Task) -> dict[str, str]:
    """SHA-256 of the pixels of each picture that a task was given, since a recipe does not hold them."""
    given = {
        field.name: getattr(task, field.name)
        for field in dataclasses.fields(task)
        if "picture" in field.metadata and getattr(task, field.name) is not None
    }
    return {name: hashlib.sha256(open_picture(value).tobytes()).hexdigest() for name, value in given.items()}


def noise(generators: list[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Unit noise in float32 on the CPU, one picture a generator, so that a batch equals its singles."""
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])


def varied(task: Task, start: torch.Tensor) -> torch.Tensor:
    """Unit noise (B, C, H, W), each picture's turned towards that of the task's variation seed."""
    if not task.variation_strength:
        return start
    other = noise([torch.Generator("cpu").manual_seed(task.variation_seed)], tuple(start.shape[1:]))
    return torch.cat([slerp(one[None], other, task.variation_strength) for one in start])


def slerp(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """A share of the way from one array to another along the arc between them (Shoemake 1985).

    Between two draws of unit noise, which stand nearly at right angles, the arc keeps to unit noise, and a
    straight line would not: half way it has half the variance.
    """
    a, b = one.double().flatten(), other.double().flatten()
    angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    if torch.sin(angle) < 1e-6:  # the same noise, or its mirror image: no arc, or no one arc, leads there
        return torch.lerp(one, other, share)
    weights = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return ((weights[0] * a + weights[1] * b) / torch.sin(angle)).to(one).reshape(one.shape)


@functools.cache
def versions() -> Mapping[str, str]:
    """The versions of what can change a picture."""
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    return {"epsilon_studio": modules.__version__, **libraries, "python": platform.python_version()}


class Stopwatch:
    """Seconds since it was made, without those spent paused."""

    def __init__(self) -> None:
        self._start, self._idle = time.perf_counter(), 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._idle += time.perf_counter() - before

    def seconds(self) -> float:
        """The time counted so far."""
        return time.perf_counter() - self._start - self._idle


def _numbers(values: torch.Tensor, model: Model, where: str) -> torch.Tensor:
    if not torch.isfinite(values).all():
        raise BrokenPicture(
            f"The picture stopped being numbers {where} (computed in {_name(model.dtype)}). "
            "Try --dtype float32, less guidance or another sampler."
        )
    return values


def _picture(values: torch.Tensor, model: Model, where: str) -> torch.Tensor:
    """The values themselves, if they are numbers and not one number all over."""
    flat = _numbers(values, model, where).flatten(1)
    if (flat.amin(1) == flat.amax(1)).any():
        raise BrokenPicture(
            f"The picture came out blank {where} (computed in {_name(model.dtype)}). "
            "Try --dtype float32, less guidance or another sampler."
        )
    return values


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _info(
    model: Model,
    task: Task,
    seeds: list[int],
    visited: list[Visited],
    words_cut: int,
    seconds: float,
) -> dict[str, Any]:
    return {
        "kind": task.kind,
        **task.scalars(),
        "seeds": seeds,
        "model_hash": model.hash,
        "timesteps": [step.t for step in visited],
        "alpha": [step.alpha for step in visited],
        "sigma": [step.sigma for step in visited],
        "snr": [step.snr for step in visited],
        "log_snr": [2 * (math.log(step.alpha) - math.log(step.sigma)) for step in visited],
        "guidance_norm": [step.guidance_norm for step in visited],
        "words_cut": words_cut,
        "seconds": round(seconds, 3),
        "device": str(model.device),
        "dtype": _name(model.dtype),
        "threads": torch.get_num_threads(),
        "versions": dict(versions()),
    }
