"""A recipe goes back into the form: from a picture on the page, or from the file of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from modules import images, metadata
from modules.presets.starts import Preset
from modules.tasks import Task
from modules.ui.forms import SEEDS, Form

SPOKEN = {
    "schedule": "spacing",
    "batch_size": "number of pictures",
    "class_name": "class",
    "control_type": "control",
    "control_image": "control map",
    "control_type_2": "second control",
    "control_image_2": "second control map",
    "image_prompt": "image prompt",
}


def from_file(path: str | Path) -> tuple[Task | None, list[str]]:
    """The Task that a picture's file says it was made by, and what of it could not be read.

    PictureError, in words, if the file is no picture.
    """
    images.open_picture(path)
    with Image.open(path, formats=images.FORMATS) as picture:
        recipe = metadata.read(picture)
    return recipe.task, list(recipe.unread)


def fill(engine: Any, form: Form, values: Mapping[str, Any]) -> tuple[dict[Any, Any], list[str]]:
    """Updates for the form's components, and a phrase for each value that this studio cannot take."""
    taken = {name: value for name, value in values.items() if name in form.fields}
    left = []
    for name, value in list(taken.items()):
        if why := _why_not(engine, form, name, value, taken):
            left.append(f"{SPOKEN.get(name, name)} {value} ({why})")
            del taken[name]
    pictures = [name for name in form.fields if "picture" in form.kind.__dataclass_fields__[name].metadata]
    if not values.get("control_type_2"):
        pictures = [name for name in pictures if name != "control_image_2"]
    if all(each.get("kind") != "ip_adapter" for each in metadata.adapters(values)):
        pictures = [name for name in pictures if name != "image_prompt"]  # there was none
    left += [f"{SPOKEN.get(name, name)} (a recipe keeps no pictures)" for name in pictures]
    updates = form.filled(taken)
    if "sampler" in taken and "sampler" in form.fields:
        updates[form.fields["sampler"]] |= {"choices": engine.samplers(_model(engine, taken))}
    if "schedule" in taken and "schedule" in form.fields:
        choices = engine.spacings(values["sampler"], _model(engine, taken))
        updates[form.fields["schedule"]] |= {"choices": choices}
    return updates, left


def begin(engine: Any, forms: Mapping[str, Form], preset: Preset) -> tuple[dict[Any, Any], list[str]]:
    """Updates that put a preset's values into its own form, or into all, and a phrase for each left out."""
    updates: dict[Any, Any] = {}
    left: dict[str, None] = {}  # in order, and once: tabs share most of their controls
    for form in [forms[preset.kind]] if preset.kind else forms.values():
        filled, missed = fill(engine, form, preset.fields)
        updates, left = updates | filled, left | dict.fromkeys(missed)
    return updates, [*left]


def _model(engine: Any, values: Mapping[str, Any]) -> str | None:
    """The model that the values name, if it is here."""
    return values["model"] if values.get("model") in engine.catalog else None


def _why_not(engine: Any, form: Form, name: str, value: Any, taken: Mapping[str, Any]) -> str:
    model = _model(engine, taken) or engine.default_model
    if name == "model":
        return "" if value in engine.catalog else "not here"
    if name == "sampler":
        return "" if value in engine.samplers(model) else "unknown here"
    if name == "schedule":
        known = taken.get("sampler") in engine.samplers(model)
        return "" if known and value in engine.spacings(taken["sampler"], model) else "not with this sampler"
    if name == "class_name":
        return "" if value in engine.classes(model) else "unknown here"
    if name == "control_type_2" and not value:
        return ""
    if name in ("control_type", "control_type_2"):
        return "" if value in engine.controls(model) else "not with this model"
    if "limits" not in form.kind.__dataclass_fields__[name].metadata or name in SEEDS:
        return ""
    allowed = engine.limits(form.kind, name, model)
    fits = allowed.minimum <= value <= allowed.maximum
    return "" if fits else f"here {allowed.minimum:g} to {allowed.maximum:g}"
