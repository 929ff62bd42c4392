"""Pictures side by side: a task painted with up to three things varied, on one labelled sheet."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modules.engine.sheets import Labels, Sheet, contact_sheet, sheet_size, shrunk
from modules.engine.unfinished import Unfinished, key_of, sweep
from modules.images import MOST_PIXELS
from modules.tasks import Limits, Task, TaskError, not_one_of

if TYPE_CHECKING:
    from PIL import Image

    from modules.diffusion.sampling import Step
    from modules.engine.generation import Result

MOST_CELLS = 64
FOLDER, KEPT_SECONDS = ".unfinished", 7 * 24 * 3600
WORDS, PARTS = "words", "parts"
"""Two things to vary that are no field: words of the prompt, each in the first one's place, and parts of the
prompt, present or not, in every choice of them."""

_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)(?:\s*\(\s*\+?\s*(\d+(?:\.\d+)?)\s*\))?")


@dataclass(frozen=True)
class Choice:
    """One row or column: its label, the fields that it sets, and what it does to the words of the prompt."""

    label: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()  # added
    swap: tuple[str, str] | None = None  # one for the other

    def made(self, task: Task) -> Task:
        """The task with this choice; TaskError if it cannot be so."""
        prompt = ", ".join(filter(None, [task.prompt, *self.words]))
        if self.swap:
            if self.swap[0] not in prompt:
                raise TaskError(
                    "prompt", f"The prompt does not say {self.swap[0]!r}, which is to be exchanged."
                )
            prompt = prompt.replace(*self.swap)
        return type(task).from_dict(
            {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
            | {"prompt": prompt}
            | dict(self.fields)
        )


Axis = tuple[Choice, ...]
ALONE: Axis = (Choice(""),)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A task, and what is varied: from column to column, from row to row, and from block to block.

    All cells share one seed, and each is one picture. TaskError, with a sentence, if there are too many, or
    if one of them cannot be.
    """

    task: Task
    across: Axis
    down: Axis = ALONE
    deep: Axis = ALONE

    def __post_init__(self) -> None:
        total = len(self.across) * len(self.down) * len(self.deep)
        if not 0 < total <= MOST_CELLS:
            raise TaskError("grid", f"The grid has {total} pictures; it may have 1 to {MOST_CELLS}.")
        size = tuple(max(getattr(cell, side) for cell in self.cells) for side in ("width", "height"))
        wide, high = sheet_size(size, self.labels)  # type: ignore[arg-type]
        if wide * high > MOST_PIXELS:
            most = MOST_PIXELS // 10**6
            raise TaskError(
                "grid", f"The sheet would have {wide} x {high} pixels, more than {most} million: take fewer."
            )

    @cached_property
    def cells(self) -> tuple[Task, ...]:
        """The task of every picture, block by block and row by row."""
        alone = dataclasses.replace(self.task, batch_size=1)
        return tuple(
            across.made(down.made(deep.made(alone)))
            for deep in self.deep
            for down in self.down
            for across in self.across
        )

    @property
    def labels(self) -> Labels:
        """What stands over columns, rows and blocks."""
        across, down, deep = (
            tuple(choice.label for choice in axis) for axis in (self.across, self.down, self.deep)
        )
        return across, down, deep

    def scalars(self) -> dict[str, Any]:
        """The fields of the task that is varied."""
        return self.task.scalars()


def axis(kind: type[Task], name: str, said: str) -> Axis:
    """The values of a field as a person writes them: "4, 8, 16", "1-9 (+2)", or for prompts "a cat | a dog".

    TaskError, with a sentence, if there is no such field or a value is none of its kind.
    """
    if name == PARTS:
        return _every_choice(_apart(said, "|" if "|" in said else ","))
    simple = [each.name for each in dataclasses.fields(kind) if "picture" not in each.metadata]
    if name not in simple and name != WORDS:
        raise TaskError(name, not_one_of("The field to vary", name, simple))
    about = kind.__dataclass_fields__.get(name)
    values = _apart(said, "|" if "prompt" in name or (name == WORDS and "|" in said) else ",")
    if not values:
        raise TaskError(name, f"There is no value to try for {name.replace('_', ' ')}.")
    if name == WORDS:
        return tuple(Choice(word, swap=(values[0], word)) for word in values)
    if about is not None and "limits" in about.metadata:
        values = [number for value in values for number in _range(name, value)]
    read = [_value(kind, name, value) for value in values]
    spoken = "" if "prompt" in name else f"{name.replace('_', ' ')} "
    return tuple(Choice(f"{spoken}{value}", {name: value}) for value in read)


def paint_grid(
    run: Callable[[Task], Iterator[Step | Result]], grid: Grid, kept: Unfinished
) -> Iterator[Step | Sheet | Result]:
    """Every cell that is not `kept` yet through `run` in turn: a Sheet, then Steps and a Sheet for each.

    At last comes a Result that is the whole sheet. Closing the iterator stops the cell that is being painted;
    the finished ones are kept for the next time that the same grid is asked for.
    """
    grid = _seeded(grid, kept)
    pictures, infos = list[Any](), list[dict[str, Any]]()
    small = list[Any]()

    def sheet() -> Sheet:
        size = (grid.task.width, grid.task.height)
        return Sheet(tuple(small), grid.labels, pictures[0].size if pictures else size)

    def add(picture: Image.Image, info: dict[str, Any]) -> None:
        pictures.append(picture)
        infos.append(info)
        small.append(shrunk(picture))

    while len(pictures) < len(grid.cells) and (found := kept.get(len(pictures))):
        add(*found)
    yield sheet()
    for cell in grid.cells[len(pictures) :]:
        with closing(run(cell)) as events:  # type: ignore[type-var]  # an engine's runs are generators
            for event in events:
                if hasattr(event, "images"):
                    kept.put(len(pictures), event.images[0], event.info)  # type: ignore[union-attr]
                    add(event.images[0], event.info)  # type: ignore[union-attr]
                else:
                    yield event
        yield sheet()
    from modules.engine.generation import Result

    whole = contact_sheet(pictures, *grid.labels)
    yield Result((whole,), infos[0] | _facts(grid, infos, whole))
    kept.finish()


def explore(engine: Any, grid: Grid, owner: str = "") -> Iterator[Step | Sheet | Result]:
    """The grid painted by an engine, from where this owner's same grid stopped before."""
    from modules.engine.generation import versions

    folder = engine.history.folder / FOLDER
    sweep(folder, engine.settings.keep_seconds or KEPT_SECONDS)
    weights = {name: engine.model_hash(name) for name in sorted({cell.model for cell in grid.cells})}
    key = key_of(grid.cells, owner, json.dumps([grid.labels, weights, dict(versions())]))
    yield from paint_grid(engine.run, grid, Unfinished(folder, key))


def _facts(grid: Grid, infos: Sequence[Mapping[str, Any]], whole: Image.Image) -> dict[str, Any]:
    """What the info of the sheet says beside the first cell's own."""
    across, down, deep = (list(labels) for labels in grid.labels)
    return {
        "grid": {"across": across, "down": down} | ({"deep": deep} if len(deep) > 1 else {}),
        "seconds": round(sum(info["seconds"] for info in infos), 3),
        "size": list(whole.size),
    }


def _seeded(grid: Grid, kept: Unfinished) -> Grid:
    """The grid with its drawn seeds: those of its first time, where it was begun before."""
    from modules.engine.generation import DRAWN_SEEDS

    names = ("seed", "variation_seed") if grid.task.variation_strength else ("seed",)
    drawn = {name: secrets.randbelow(DRAWN_SEEDS) for name in names if getattr(grid.task, name) < 0}
    if not drawn:
        return grid
    return dataclasses.replace(grid, task=dataclasses.replace(grid.task, **kept.seeds(drawn)))


def _apart(said: str, mark: str) -> list[str]:
    return [part.strip() for part in said.split(mark) if part.strip()]


def _range(name: str, said: str) -> list[str]:
    """The numbers of "2-8 (+3)", or of "2-8", which counts by ones; anything else as it is."""
    found = _RANGE.fullmatch(said)
    if not found:
        return [said]
    start, end, stride = float(found[1]), float(found[2]), float(found[3] or 1)
    if not stride or end < start or (end - start) / stride >= MOST_CELLS:
        raise TaskError(name, f"{said[:40]!r} is no range of at most {MOST_CELLS} numbers, such as 2-8 (+2).")
    count = int((end - start) / stride + 1e-9) + 1
    return [f"{start + i * stride:.10g}" for i in range(count)]


def _every_choice(parts: Sequence[str]) -> Axis:
    if not parts:
        raise TaskError(
            "prompt", "There is no part of the prompt to try; write some, such as: red | at night."
        )
    if 2 ** len(parts) > MOST_CELLS:
        raise TaskError("prompt", f"{len(parts)} parts make {2 ** len(parts)} pictures; {MOST_CELLS} fit.")
    chosen = itertools.product((False, True), repeat=len(parts))
    picks = [tuple(part for part, kept in zip(parts, marks) if kept) for marks in chosen]
    return tuple(Choice(" + ".join(words) if words else "as it is", {}, words) for words in picks)


def _value(kind: type[Task], name: str, said: str) -> Any:
    about = kind.__dataclass_fields__[name]
    try:
        if isinstance(about.default, bool):
            return {"true": True, "yes": True, "false": False, "no": False}[said.lower()]
        if isinstance(allowed := about.metadata.get("limits"), Limits):
            return int(said) if isinstance(about.default, int) else float(said)
    except (KeyError, ValueError):
        what = "a whole number" if isinstance(about.default, int) else f"a number such as {allowed.minimum:g}"
        what = "yes or no" if isinstance(about.default, bool) else what
        raise TaskError(name, f"{name} is {said[:40]!r}; it must be {what}.") from None
    return said
