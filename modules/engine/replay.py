"""A picture and its repetition are laid side by side here: which pixels differ, and what was not the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from modules.engine.trajectory import heat_map
from modules.metadata import Recipe
from modules.tasks import KINDS, Task

CAUSES = (
    "model_hash", "control_hash", "adapters", "device", "dtype", "threads", "size", "timesteps", "edited",
)  # fmt: skip
"""What of an info, beside the task itself and the versions, can change a picture."""


class ReplayError(ValueError):
    """A picture that cannot be made again; the message is a sentence for the user."""


class Field(NamedTuple):
    """Something that was not the same, as text: before, and now."""

    name: str
    then: str
    now: str


@dataclass(frozen=True)
class Comparison:
    """How one picture differs from another, and the fields of their recipes that do.

    `count` of `total` pixels differ, in any channel, the one that does most by `largest` of 255; all 0 where
    the sizes differ, which leaves nothing to compare. `heat` shows where, scaled to the largest.
    """

    same_size: bool
    count: int
    total: int
    largest: int
    heat: Image.Image | None
    fields: tuple[Field, ...]

    @property
    def identical(self) -> bool:
        """Whether every pixel is the same, to the last bit."""
        return self.same_size and self.count == 0

    def sentence(self) -> str:
        """What came out, as a person says it."""
        if not self.same_size:
            return "The sizes differ, so there are no pixels to compare."
        if self.identical:
            return f"Identical: all {self.total:,} pixels, to the last bit."
        told = f"{self.count:,} of {self.total:,} pixels differ, by {self.largest} of 255 at most."
        return told if self.fields else f"{told} Nothing that a recipe tells of differs."


def task_of(recipe: Recipe) -> tuple[Task, int]:
    """The task that makes a picture again, its whole batch with it, and the picture's place in that.

    ReplayError if it does not say how it was made, or was made from pictures, which a recipe does not keep.
    """
    if recipe.task is None:
        raise ReplayError("This picture does not say how it was made.")
    kind, info = KINDS[recipe.task.kind], recipe.info
    may = {field.name for field in fields(Task)}  # give a picture, which most do not: what was used is told
    needs = any("picture" in field.metadata for field in fields(kind) if field.name not in may)
    if needs or any("picture" in each for each in info.get("adapters", ())):
        raise ReplayError("It was made from another picture, which a recipe does not keep.")
    if not info or info.get("grid"):
        return recipe.task, 0
    asked = {field.name: info[field.name] for field in fields(kind) if field.name in info}
    return kind.from_dict(asked | {"seed": info["seeds"][0]}), int(info.get("index", 0))


Info = Mapping[str, Any]


def compared(one: Image.Image, other: Image.Image, then: Info, now: Info) -> Comparison:
    """The comparison of two pictures, `then` and `now` the infos that belong to them; empty is unknown."""
    changed = differing(then, now) if then and now else ()
    if one.size != other.size:
        return Comparison(False, 0, 0, 0, None, changed)
    first, second = (np.asarray(picture.convert("RGB"), np.int16) for picture in (one, other))
    apart = np.abs(first - second).max(-1)
    largest = int(apart.max())
    heat = heat_map(apart / largest) if largest else None
    return Comparison(True, int((apart > 0).sum()), apart.size, largest, heat, changed)


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of two infos that differ, of those that can change a picture."""
    before, after = _causes(then), _causes(now)
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        Field(name, _shown(before.get(name)), _shown(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    )


def _causes(info: Mapping[str, Any]) -> dict[str, Any]:
    """What can change a picture, by name, the versions one by one; the batch's seed stands for the seed."""
    asked = [field.name for field in fields(KINDS[info["kind"]])] if info.get("kind") in KINDS else []
    found = {name: info[name] for name in (*asked, *CAUSES) if name in info}
    if seeds := info.get("seeds"):
        found |= {"seed": seeds[0]}
    return found | {f"{name} version": version for name, version in info.get("versions", {}).items()}


def _shown(value: Any) -> str:
    if value is None:
        return "not told"
    if isinstance(value, list) and len(value) > 4:
        return (
            f"{len(value)} values from {value[0]:g}"
            if isinstance(value[0], float)
            else f"{len(value)} values"
        )
    return str(value)
