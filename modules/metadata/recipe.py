"""A recipe: the Task that a picture says it was made by, and what of it could not be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from modules.tasks import KINDS, LARGEST_SEED, Task, TaskError


@dataclass(frozen=True)
class Recipe:
    """What a picture says of its making: the Task, the whole info if ours, and what could not be read."""

    task: Task | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def adapters(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The adapters that a picture was made with; what a stranger's recipe has in their place is left out."""
    listed = info.get("adapters")
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def from_json(source: str) -> Recipe:
    """The recipe that this studio wrote, the info of a run as JSON."""
    try:
        info = json.loads(source)
        kind = info["kind"]
        seeds, index = info["seeds"], info.get("index", 0)
        names = {entry.name for entry in fields(KINDS[kind])}
        values = {name: value for name, value in info.items() if name in names}
        if isinstance(index, int) and 0 < index < len(seeds):  # a picture of a batch, alone, has its own seed
            values |= {"seed": seeds[index] % (LARGEST_SEED + 1), "batch_size": 1}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Recipe(unread=("the recipe itself: it is damaged",))
    return understood(kind, values, info, [])


def understood(kind: str, values: dict[str, Any], info: dict[str, Any], unread: list[str]) -> Recipe:
    """The Task of these values, without those that it refuses, which are listed with the reason."""
    while True:
        try:
            return Recipe(KINDS[kind].from_dict(values), info, tuple(unread))
        except TaskError as error:
            if error.field not in values:
                return Recipe(None, info, (*unread, str(error)))
            del values[error.field]
            unread.append(str(error))
