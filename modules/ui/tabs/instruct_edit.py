"""The tab where a picture is changed as an instruction says."""

from __future__ import annotations

from typing import Any

from modules.tasks import InstructEdit
from modules.ui.forms import Maker
from modules.ui.painter import painter
from modules.ui.prompt_box import prompt_box

KIND = InstructEdit
TITLE = "Edit"


def fields(engine: Any) -> dict[str, Any]:
    """The picture, the instruction, and how hard to follow each of them."""
    make = Maker(engine, KIND)
    easel = painter("edit-easel", masked=False)
    words = prompt_box(
        make, "Instruction", improves=False, elem_id="edit-prompt", lines=2, max_lines=8,
        placeholder="What should change? For example: make it winter",
    )  # fmt: skip
    guidance = make.slider(
        "guidance_scale", "Guidance", elem_id="edit-guidance", reach=15, info="More follows the words harder."
    )
    picture = make.slider("image_guidance_scale", "Picture guidance", reach=5, info="More changes less.")
    return {"image": easel, **words, "guidance_scale": guidance, "image_guidance_scale": picture}
