"""The tab where a class is chosen from a list; a prompt may go beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.tasks import ClassConditional
from modules.ui.forms import Maker
from modules.ui.models import Follower
from modules.ui.prompt_box import prompt_box
from modules.ui.toolkit import gr

KIND = ClassConditional
TITLE = "Class"


def fields(engine: Any) -> dict[str, Any]:
    """Class and its own guidance, prompt and the prompt's guidance."""
    make = Maker(engine, KIND)
    names = engine.classes(engine.default_model)
    name = make.choice(
        "class_name",
        "Class",
        names,
        value=names[0] if names else None,
        info=f"Type to search among {len(names)}.",
    )
    scale = make.slider("class_scale", "Class guidance", reach=15, info="0 ignores the class.")
    words = prompt_box(
        make,
        "Prompt, if you like",
        improves=False,
        elem_id="class-prompt",
        lines=2,
        max_lines=8,
        placeholder="For example: on a green background",
    )
    guidance = make.slider(
        "guidance_scale", "Prompt guidance", elem_id="class-guidance", reach=15, info="On top of the class."
    )
    return {"class_name": name, "class_scale": scale, **words, "guidance_scale": guidance}


def follow(engine: Any, parts: Mapping[str, Any]) -> Follower:
    """The list of classes is the model's; a class that it knows too stays chosen."""

    def answer(model: str, now: str | None) -> dict[Any, Any]:
        names = engine.classes(model)
        value = now if now in names else next(iter(names), None)
        told = f"Type to search among {len(names)}."
        return {parts["class_name"]: gr.update(choices=names, value=value, info=told)}

    return Follower([parts["class_name"]], [parts["class_name"]], answer)
