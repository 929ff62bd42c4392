"""The tab where a picture is the start of another."""

from __future__ import annotations

from typing import Any

from modules.tasks import ImageToImage
from modules.ui.forms import Maker
from modules.ui.painter import painter
from modules.ui.prompt_box import prompt_box

KIND = ImageToImage
TITLE = "Image"


def fields(engine: Any) -> dict[str, Any]:
    """The picture, how far to go back towards noise, the prompt and its guidance."""
    make = Maker(engine, KIND)
    easel = painter("image-easel", masked=False)
    strength = make.slider(
        "strength", "Strength", elem_id="image-strength", info="Where on the schedule the walk starts."
    )
    words = prompt_box(
        make, "Prompt", elem_id="image-prompt", lines=2, max_lines=8,
        placeholder="What should it become? For example: a green apple",
    )  # fmt: skip
    guidance = make.slider("guidance_scale", "Guidance", elem_id="image-guidance", reach=15)
    return {"image": easel, "strength": strength, **words, "guidance_scale": guidance}
