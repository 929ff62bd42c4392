"""Named components and the Task they stand for: a dict by field name, never a positional list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules import tasks
from modules.tasks import Task, TaskError
from modules.ui import painter
from modules.ui.toolkit import gr

SEEDS = ("seed", "variation_seed")


@dataclass(frozen=True)
class Form:
    """The components of one kind of Task, by field name; fields without a component keep their default."""

    kind: type[Task]
    fields: Mapping[str, gr.components.Component]

    @classmethod
    def of(cls, kind: type[Task], parts: Mapping[str, gr.components.Component]) -> Form:
        """The form of those parts of a tab that are fields; the others are tools to fill these."""
        fields = kind.__dataclass_fields__
        return cls(kind, {name: part for name, part in parts.items() if name in fields})

    def task(self, values: Sequence[Any]) -> Task:
        """The Task that the values of `fields`, in their order, ask for; TaskError as Task says."""
        return self.kind.from_dict(
            {name: as_field(self.kind, name, value) for name, value in zip(self.fields, values, strict=True)}
        )

    def filled(self, recipe: Mapping[str, Any]) -> dict[gr.components.Component, Any]:
        """Updates that put the recipe's values into the components."""
        return {
            component: gr.update(value=seed_text(recipe[name]) if name in SEEDS else recipe[name])
            for name, component in self.fields.items()
            if name in recipe
        }


def seed_text(seed: int) -> str:
    """A seed as its box shows it: empty for a new one each time."""
    return str(seed) if seed >= 0 else ""


def as_field(kind: type[Task], name: str, value: Any) -> Any:
    """What a component holds, as the Task field means it: an empty box is the field's default.

    A seed is text on the page, because a browser's numbers lose digits beyond 2^53.
    """
    if "picture" in kind.__dataclass_fields__[name].metadata and isinstance(value, Mapping):
        return painter.read(name, value)
    if value is None or (name in SEEDS and not str(value).strip()):
        return tasks.default(kind, name)
    if name not in SEEDS:
        return value
    try:
        return int(str(value).replace(" ", "").replace(",", ""))
    except ValueError:
        raise TaskError(
            name,
            f"{name} is {str(value)[:40]!r}; it must be a whole number, or empty for a new one each time.",
        ) from None


@dataclass(frozen=True)
class Maker:
    """Makes the component of a field from what the engine says of it: its default, and its limits here."""

    engine: Any
    kind: type[Task]

    def words(self, name: str, label: str, **how: Any) -> gr.Textbox:
        """A text box for a text field."""
        return gr.Textbox(self._default(name), label=label, elem_id=how.pop("elem_id", name), **how)

    def slider(self, name: str, label: str, *, reach: float = math.inf, **how: Any) -> gr.Slider:
        """A slider for a number field; `reach` ends it earlier than the limit, where few ever go."""
        allowed = self.engine.limits(self.kind, name)
        return gr.Slider(
            allowed.minimum,
            min(reach, allowed.maximum),
            step=allowed.step,
            value=min(max(self._default(name), allowed.minimum), allowed.maximum),
            label=label,
            elem_id=how.pop("elem_id", name),
            **how,
        )

    def choice(self, name: str, label: str, choices: Sequence[Any], **how: Any) -> gr.Dropdown:
        """A dropdown for a text field with a known set of values."""
        value = how.pop("value", self._default(name))
        return gr.Dropdown(list(choices), value=value, label=label, elem_id=how.pop("elem_id", name), **how)

    def _default(self, name: str) -> Any:
        return self.engine.default(self.kind, name)
