"""The quiet line under Generate: the time and memory that the next picture takes, as measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from modules.tasks import Task, TaskError
from modules.ui import gallery
from modules.ui.forms import Form, as_field
from modules.ui.toolkit import gr

# What of a task makes it long or large.
COSTLY = (
    "prompt", "negative_prompt", "guidance_scale", "class_scale", "strength", "steps", "sampler", "schedule",
    "width", "height", "batch_size", "model",
)  # fmt: skip
GUIDANCE = ("guidance_scale", "class_scale")

# A run that is over was measured, so the line is due again; gallery.js tells the window of it.
HEAR_THE_END = """
const hear = (event) => {
  if (!element.isConnected) window.removeEventListener("studio", hear);
  else if (event.detail.over) trigger("tick");
};
window.addEventListener("studio", hear);
"""


def build() -> gr.HTML:
    """The line, empty until the page has opened; its `tick` event says that a run is over."""
    return gr.HTML("", js_on_load=HEAR_THE_END, apply_default_css=False, elem_id="forecast")


LATER = "(...sent) => new Promise((go) => requestAnimationFrame(() => setTimeout(go, 0, sent)))"
"""What the event itself changed is drawn first: a forecast may come a frame later, a curve may not."""


def listener(engine: Any, line: gr.HTML, forms: Mapping[str, Form], open_tab: gr.State) -> dict[str, Any]:
    """What an event is told to do for the line to be true again: keyword arguments of a listener."""
    known = [(name, field, part) for name, form in forms.items() for field, part in form.fields.items()]
    asked = [one for one in known if one[1] in COSTLY]

    def foretold(now: str, *values: Any) -> str:
        chosen = {field: value for (name, field, _), value in zip(asked, values, strict=True) if name == now}
        kind = forms[now].kind
        return said(engine, lambda: kind.from_dict({f: as_field(kind, f, v) for f, v in chosen.items()}))

    return {
        "fn": foretold,
        "inputs": [open_tab, *(part for _, _, part in asked)],
        "outputs": line,
        "queue": False,
        "trigger_mode": "always_last",
        "show_progress": "hidden",
        "api_visibility": "private",
        "js": LATER,
    }


def said(engine: Any, make: Callable[[], Task]) -> str:
    """The forecast of a task as a paragraph; nothing of one that cannot be."""
    try:
        task = make()
    except TaskError:
        return ""
    found = engine.forecast(task)
    if found.seconds is None:
        return _paragraph(unmeasured(getattr(engine.catalog.get(task.model), "memory", {})))
    costs = [("about " if found.seconds >= 1 else "") + gallery.span(found.seconds)]
    if found.needed:
        costs.append(_gigabytes(found.needed))
    told = f"This takes {_listed(costs)}, by what was measured here."
    if not found.fits:
        told += f" Only {_gigabytes(found.free)} are free, so it will be made in smaller parts."
    return _paragraph(told)


def unmeasured(memory: Mapping[str, float]) -> str:
    """What is said of a model that was never run here; `memory` is what its card says, in GB by dtype."""
    told = "Not measured on this machine yet: the first picture will tell how long the next ones take."
    if memory:
        told += (
            f" It needs about {_listed([f'{size:g} GB in {dtype}' for dtype, size in memory.items()], 'or')}."
        )
    return told


def _listed(parts: Sequence[str], last: str = "and") -> str:
    *others, final = parts
    return f"{', '.join(others)} {last} {final}" if others else final


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
