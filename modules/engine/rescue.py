"""A run that fails for want of memory or numbers is begun again here, smaller or in float32, once each.

This wraps `generate` and changes nothing in it: the same seeds give the same pictures, and the info says in
"rescue" what was done. What cannot be saved ends with a sentence, and nothing of it stays in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from modules.diffusion.sampling import Step
from modules.engine.generation import (
    BrokenPicture,
    GenerationError,
    Result,
    generate,
    seeded,
    seeds_of,
    templates,
)
from modules.models import memory
from modules.models.parts import networks
from modules.models.pipelines import Model
from modules.models.sparing import Sparing
from modules.presets import wildcards
from modules.tasks import Task

WHOLE, SINGLY, SPARINGLY = 0, 1, 2


Painter = Callable[[Model, Task], Iterator[Step | Result]]


def rescued(
    model: Model, task: Task, rung: int = WHOLE, paint: Painter = generate
) -> Generator[Step | Result]:
    """`generate`, begun again where it fails: pictures one at a time, then in tiles; once in float32.

    `rung`: where on that ladder to begin; more than WHOLE where the forecast says that memory is short.
    `paint` is `generate`, or what wraps it.
    GenerationError, in words, where nothing helped.
    """
    task, device, precise, told = seeded(task), str(model.device), False, list[str]()
    if rung != WHOLE:
        told.append(f"Memory is short, so {RUNGS[rung].told}.")
    while True:
        try:
            with in_float32(model) if precise else contextlib.nullcontext(model) as painter:
                yield from _telling(RUNGS[rung].paint(painter, task, paint), told)
                return
        except BrokenPicture as error:
            if precise or not half(model):
                raise
            precise = True
            told.append(f"{str(error).partition('. ')[0]}, so it was computed again in float32.")
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
            rung += 1 if task.batch_size > 1 else 2
            if rung < len(RUNGS):
                told = [*told, f"Memory ran out, so {RUNGS[rung].told}."]
        memory.let_go(device)  # the error is gone by now, and with it the frames that held the tensors
        if rung >= len(RUNGS):
            raise GenerationError(too_large(device))


def rung_for(task: Task, fits: Callable[[Task], bool]) -> int:
    """The first rung on which the task should fit, by a forecast."""
    if fits(task):
        return WHOLE
    return SINGLY if task.batch_size > 1 and fits(dataclasses.replace(task, batch_size=1)) else SPARINGLY


def too_large(device: str) -> str:
    """The sentence for a picture that no rung of the ladder can make."""
    free = memory.free(device)
    left = f" ({free / 1e9:.1f} GB are free)" if free is not None else ""
    return (
        f"There is not enough memory on {device} for this picture, even in parts{left}. "
        "Ask for a smaller one, or close what else uses the memory."
    )


def half(model: Model) -> bool:
    """Whether any of a model's networks computes in less than float32, and could be widened where it is."""
    values = list(_values(networks(model).values()))
    apart = any(value.is_meta for network in networks(model).values() for value in network.parameters())
    return not apart and any(value.dtype != torch.float32 for value in values)


@contextlib.contextmanager
def in_float32(model: Model) -> Iterator[Model]:
    """The model computing in float32 while this is open; its weights are then as they were, bit by bit."""
    before = list[tuple[torch.Tensor, torch.dtype]]()

    def widened(found: Any) -> Any:
        for value in _values([found.network]):
            before.append((value, value.dtype))
            value.data = value.data.float()
        return found

    try:
        for network in networks(model).values():
            widened(Holder(network))
        yield dataclasses.replace(
            model, dtype=torch.float32, control=lambda kind: widened(model.control(kind))
        )
    finally:
        for value, dtype in reversed(before):
            value.data = value.data.to(dtype)


class Holder(NamedTuple):
    """A network in the place where a ControlNetwork has its own."""

    network: Any


def _values(found: Iterable[torch.nn.Module]) -> Iterator[torch.Tensor]:
    for network in found:
        yield from (value for value in network.parameters() if value.is_floating_point())
        yield from (value for value in network.buffers() if value.is_floating_point())


def _telling(events: Iterator[Step | Result], told: Sequence[str]) -> Iterator[Step | Result]:
    for event in events:
        if told and isinstance(event, Result):
            event = dataclasses.replace(event, info=event.info | {"rescue": " ".join(told)})
        yield event


def whole(model: Model, task: Task, paint: Painter) -> Iterator[Step | Result]:
    """Everything at once."""
    return paint(model, task)


def singly(model: Model, task: Task, paint: Painter) -> Iterator[Step | Result]:
    """The pictures of a task one after another, with the seeds that they have in their batch."""
    words, results = wildcards.resolve(task), list[Result]()
    for seed in seeds_of(task):
        for event in paint(model, dataclasses.replace(words, seed=seed, batch_size=1)):
            if isinstance(event, Result):
                results.append(event)
            else:
                yield event
    pictures = tuple(picture for result in results for picture in result.images)
    yield Result(
        pictures,
        results[0].info
        | {"seed": task.seed, "seeds": seeds_of(task), "batch_size": task.batch_size}
        | {"seconds": round(sum(result.info["seconds"] for result in results), 3)}
        | templates(task, words),
    )


def sparingly(model: Model, task: Task, paint: Painter) -> Iterator[Step | Result]:
    """As `singly`, with conditions asked one after another and the picture decoded in tiles."""
    sparing: Any = Sparing(model)
    return singly(sparing, task, paint)


class Rung(NamedTuple):
    """One way to paint, and how it is told."""

    paint: Callable[[Model, Task, Painter], Iterator[Step | Result]]
    told: str


RUNGS = (
    Rung(whole, "everything was made at once"),
    Rung(singly, "the pictures were made one at a time"),
    Rung(sparingly, "the picture was made in parts and decoded in tiles"),
)
