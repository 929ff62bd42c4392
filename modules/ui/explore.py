"""What leads from one picture to its neighbours: the variations of a seed, and grids over any fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import prod
from typing import Any

from modules.engine.grids import ALONE, MOST_CELLS, PARTS, WORDS, Axis, Grid, axis
from modules.tasks import Task, TaskError
from modules.ui.forms import Form, Maker
from modules.ui.toolkit import gr

WAYS = (("across", "Across"), ("down", "Down"), ("deep", "Sheet by sheet"))
SPOKEN = {
    WORDS: "words of the prompt, exchanged",
    PARTS: "parts added to the prompt, in every choice",
    "schedule": "spacing",
    "variation_strength": "variation",
}
HINTS = {
    WORDS: "apple, pear, heart: the first stands in the prompt now",
    PARTS: "red | on a table | flat style",
    "prompt": "a cat | a dog | a red star",
    "negative_prompt": "blur | text",
    "sampler": "Euler, Heun, DPM++ 2M",
    "schedule": "karras, exponential",
    "steps": "4, 8, 16, or 4-20 (+4)",
    "seed": "1-6",
    "guidance_scale": "1, 3, 5, 9",
    "variation_strength": "0-0.5 (+0.1)",
}
FIRST = ("steps", "guidance_scale", "seed", WORDS, PARTS, "prompt", "sampler", "schedule")
LEFT_OUT = {"batch_size", "model"}  # each cell is one picture, and one model is in memory at a time
GENERATE = "Generate"


def variation(make: Maker) -> dict[str, Any]:
    """Behind a fold, how far to turn the seed's noise, and towards whose; fields of the form by name."""
    with gr.Accordion("Vary the seed", open=False, elem_id="variation"):
        strength = make.slider(
            "variation_strength",
            "Variation",
            info="0 is the seed's own picture, a little is a sibling of it, 1 is the other seed's.",
        )
        seed = gr.Textbox(
            label="Towards seed",
            placeholder="a new one each time",
            elem_id="variation_seed",
            max_length=20,
        )
    return {"variation_strength": strength, "variation_seed": seed}


class Explorer:
    """The fold where a grid is described; while it describes one, Generate paints that."""

    def __init__(self, kinds: Mapping[str, type[Task]], *, visible: bool = True):
        self.kinds = kinds
        self.parts: list[Any] = []
        with gr.Accordion("Explore", open=False, visible=visible, elem_id="explore"):
            gr.HTML(
                "<p>Vary up to three things and see the pictures side by side, all from one seed.</p>",
                elem_classes="aside",
                apply_default_css=False,
            )
            for name, label in WAYS:
                with gr.Row(elem_classes="pair"):
                    self.parts += [
                        gr.Dropdown(
                            choices(kinds), value="", label=label, elem_id=f"vary-{name}", min_width=120
                        ),
                        gr.Textbox(
                            label="Values",
                            elem_id=f"values-{name}",
                            placeholder="choose what to vary",
                            max_length=2000,
                            max_lines=1,
                            min_width=120,
                        ),
                    ]
            self.told = gr.HTML("", elem_id="grid-told", elem_classes="aside", apply_default_css=False)

    def wire(self, generate: Sequence[gr.Button]) -> None:
        """Let the fold tell how many pictures it asks for, and the buttons too."""
        gr.on(
            [part.change for part in self.parts],
            self._changed,
            self.parts,
            [*self.parts[1::2], self.told, *generate],
            queue=False,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        self._buttons = len(generate)

    def asked(self, form: Form, sent: Sequence[Any]) -> Task | Grid:
        """What the form's values, followed by this fold's, ask for; TaskError as Task and Grid say."""
        values, own = sent[: -len(self.parts)], sent[-len(self.parts) :]
        task = form.task(values)
        axes = read(form.kind, own)
        return Grid(task=task, **axes) if axes else task

    def _changed(self, *own: Any) -> tuple[Any, ...]:
        hints = [gr.update(placeholder=hint(name)) for name in own[::2]]
        text, count = "", 0
        try:
            if named := [name for name in own[::2] if name]:
                axes = read(kind_with(self.kinds, named), own)
                count = prod(map(len, axes.values())) if axes else 0
                text = said(count)
        except TaskError as refusal:
            text = f'<p class="trouble">{escape(str(refusal))}</p>'
        label = f"{GENERATE} {count} pictures" if 1 < count <= MOST_CELLS else GENERATE
        return *hints, text, *[label] * self._buttons


def read(kind: type[Task], own: Sequence[Any]) -> dict[str, Axis]:
    """The axes that the fold's values describe, by name; an axis without anything to vary is left out.

    The first one is always across, whichever line it was written in.
    """
    chosen = [axis(kind, name, str(values or "")) for name, values in zip(own[::2], own[1::2]) if name]
    if not chosen:
        return {}
    down, deep = [*chosen[1:], ALONE, ALONE][:2]
    return {"across": chosen[0], "down": down, "deep": deep}


def kind_with(kinds: Mapping[str, type[Task]], names: Sequence[str]) -> type[Task]:
    """A kind that has all these fields, if there is one."""
    wanted = set(names) - {WORDS, PARTS}
    fitting = (kind for kind in kinds.values() if wanted <= set(kind.__dataclass_fields__))
    return next(fitting, next(iter(kinds.values())))


def choices(kinds: Mapping[str, type[Task]]) -> list[tuple[str, str]]:
    """What can be varied on this page, the usual first: (what a person reads, name)."""
    fields = {name: field for kind in kinds.values() for name, field in kind.__dataclass_fields__.items()}
    simple = [n for n, field in fields.items() if field.metadata and "picture" not in field.metadata]
    rest = [name for name in simple if name not in {*FIRST, *LEFT_OUT}]
    return [("nothing", ""), *((spoken(name), name) for name in (*FIRST, *rest))]


def spoken(name: str) -> str:
    """The name of a field as a person reads it."""
    return SPOKEN.get(name, name.replace("_", " "))


def hint(name: str) -> str:
    """An example of values."""
    return HINTS.get(name, "values, apart by commas" if name else "choose what to vary")


def said(count: int) -> str:
    """How many pictures a grid asks for."""
    if count > MOST_CELLS:
        return f'<p class="trouble">That makes {count} pictures; a sheet holds {MOST_CELLS}.</p>'
    return f"<p>{count} picture{'s' if count > 1 else ''} on one sheet.</p>" if count else ""
