"""The tab where words become a picture."""

from __future__ import annotations

from typing import Any

from modules.tasks import TextToImage
from modules.ui.forms import Maker
from modules.ui.prompt_box import prompt_box
from modules.ui.toolkit import gr

KIND = TextToImage
TITLE = "Text"

EXAMPLES = (
    "a red apple",
    "a purple cat face",
    "a blue car on a yellow background",
    "two pink hearts",
    "a rocket above a star",
    "a slice of pizza, flat style",
)


def fields(engine: Any) -> dict[str, Any]:
    """Prompt and guidance, with examples that fill the prompt."""
    make = Maker(engine, KIND)
    words = prompt_box(
        make,
        "Prompt",
        lines=3,
        max_lines=8,
        placeholder="What should appear? For example: a red apple",
        autofocus=True,
    )
    gr.Examples(
        [[example] for example in EXAMPLES],
        inputs=[words["prompt"]],
        label="Try",
        elem_id="examples",
        api_visibility="private",
    )
    guidance = make.slider("guidance_scale", "Guidance", reach=15, info="1 is none, 5 is usual.")
    return words | {"guidance_scale": guidance}
