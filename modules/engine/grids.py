"""Pictures side by side: a task painted with one or two things varied, on one labelled sheet."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from modules.tasks import Limits, Task, TaskError, not_one_of

if TYPE_CHECKING:
    from modules.diffusion.sampling import Step
    from modules.engine.generation import Result

MOST_CELLS = 64
PAPER, INK, EMPTY = "#ffffff", "#1d1b18", "#f2efe8"
GAP, FONT_SIZE = 8, 15


@dataclass(frozen=True)
class Choice:
    """One row or column: its label, the fields that it sets, the words that it adds to the prompt."""

    label: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def made(self, task: Task) -> Task:
        """The task with this choice; TaskError if it cannot be so."""
        prompt = ", ".join([task.prompt, *self.words]) if self.words else task.prompt
        return type(task).from_dict(
            {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
            | {"prompt": prompt}
            | dict(self.fields)
        )


Axis = tuple[Choice, ...]
ALONE: Axis = (Choice(""),)


@dataclass(frozen=True)
class Sheet:
    """The sheet so far, with `done` of `total` pictures on it."""

    picture: Image.Image
    done: int
    total: int


def axis(kind: type[Task], name: str, said: str) -> Axis:
    """The values of a field as a person writes them: "4, 8, 16", or for prompts "a cat | a dog".

    TaskError, with a sentence, if there is no such field or a value is none of its kind.
    """
    simple = [each.name for each in dataclasses.fields(kind) if "picture" not in each.metadata]
    if name not in simple:
        raise TaskError(name, not_one_of("The field to vary", name, simple))
    values = [part.strip() for part in said.split("|" if "prompt" in name else ",")]
    read = [_value(kind, name, value) for value in values if value]
    if not read:
        raise TaskError(name, f"There is no value to try for {name}.")
    spoken = "" if "prompt" in name else f"{name.replace('_', ' ')} "
    return tuple(Choice(f"{spoken}{value}", {name: value}) for value in read)


def prompt_matrix(prompt: str) -> tuple[str, Axis, Axis]:
    """The base of "a cat | red | at night", and two axes whose cells are every choice of the other parts."""
    base, *parts = (part.strip() for part in prompt.split("|"))
    parts = [part for part in parts if part]
    if 2 ** len(parts) > MOST_CELLS:
        raise TaskError("prompt", f"{len(parts)} parts make {2 ** len(parts)} pictures; {MOST_CELLS} fit.")
    half = (len(parts) + 1) // 2
    return base, _every_choice(parts[:half]), _every_choice(parts[half:])


def paint_grid(
    run: Callable[[Task], Iterator[Step | Result]],
    check: Callable[[Task], None],
    task: Task,
    across: Axis,
    down: Axis = ALONE,
) -> Iterator[Step | Sheet | Result]:
    """Every cell through `run` in turn: its Steps, then a Sheet; at last a Result that is the whole sheet.

    All cells share a seed, which -1 draws, and each is one picture. TaskError before the first is painted if
    any cell fails `check`. Closing the iterator stops the cell that is being painted.
    """
    from modules.engine.generation import DRAWN_SEEDS

    if not 0 < (total := len(across) * len(down)) <= MOST_CELLS:
        raise TaskError("grid", f"The grid has {total} pictures; it may have 1 to {MOST_CELLS}.")
    seed = task.seed if task.seed >= 0 else secrets.randbelow(DRAWN_SEEDS)
    task = dataclasses.replace(task, seed=seed, batch_size=1)
    cells = [column.made(row.made(task)) for row in down for column in across]
    for cell in cells:
        check(cell)
    return _painted(run, cells, across, down)


def contact_sheet(pictures: Sequence[Image.Image], across: Sequence[str], down: Sequence[str]) -> Image.Image:
    """Pictures in rows of len(across), as many as there are yet, with a label over each column and row."""
    wide, high = (max(picture.size[side] for picture in pictures) for side in (0, 1))
    font = ImageFont.load_default(FONT_SIZE)
    top = _height(across, wide, font)
    tops = [_height([label], wide, font) for label in down]
    width = GAP + len(across) * (wide + GAP)
    sheet = Image.new("RGB", (width, GAP + top + sum(tops) + len(down) * (high + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    waiting = iter(pictures)
    y = GAP + top
    for column, label in enumerate(across):
        _write(draw, label, (GAP + column * (wide + GAP), GAP), wide, font)
    for label, above in zip(down, tops):
        _write(draw, label, (GAP, y), wide, font)
        y += above
        for column in range(len(across)):
            x = GAP + column * (wide + GAP)
            draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=EMPTY)
            if picture := next(waiting, None):
                sheet.paste(picture, (x, y))
        y += high + GAP
    return sheet


def _painted(
    run: Callable[[Task], Iterator[Step | Result]], cells: list[Task], across: Axis, down: Axis
) -> Iterator[Step | Sheet | Result]:
    from modules.engine.generation import Result

    labels = [choice.label for choice in across], [choice.label for choice in down]
    results: list[Result] = []
    for cell in cells:
        with closing(run(cell)) as events:  # type: ignore[type-var]  # an engine's runs are generators
            for event in events:
                if isinstance(event, Result):
                    results.append(event)
                else:
                    yield event
        sheet = contact_sheet([result.images[0] for result in results], *labels)
        yield Sheet(sheet, len(results), len(cells))
    info = results[0].info | {
        "grid": {"across": labels[0], "down": labels[1]},
        "seconds": round(sum(result.info["seconds"] for result in results), 3),
        "size": list(sheet.size),
    }
    yield Result((sheet,), info)


def _every_choice(parts: Sequence[str]) -> Axis:
    chosen = itertools.product((False, True), repeat=len(parts))
    picks = [tuple(part for part, kept in zip(parts, marks) if kept) for marks in chosen]
    return tuple(
        Choice(" + ".join(words) if words else ("as it is" if parts else ""), {}, words) for words in picks
    )


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


def _height(labels: Sequence[str], wide: int, font: Any) -> int:
    """What the tallest of the labels needs; nothing if all are empty."""
    lines = max(len(_wrapped(label, wide, font)) for label in labels)
    return lines * (FONT_SIZE + 4) + (GAP // 2 if lines else 0)


def _write(draw: ImageDraw.ImageDraw, label: str, place: tuple[int, int], wide: int, font: Any) -> None:
    for i, text in enumerate(_wrapped(label, wide, font)):
        draw.text((place[0], place[1] + i * (FONT_SIZE + 4)), text, fill=INK, font=font)


def _wrapped(label: str, wide: int, font: Any) -> list[str]:
    """A label in lines of at most `wide` pixels, three at most."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= wide or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == 3:
            lines[-1] += "…"
            break
        else:
            lines.append(word)
    return [line for line in lines if line]
