"""The tab where a picture is brought, painted over, and repainted there."""

from __future__ import annotations

from typing import Any

from modules.tasks import Inpaint
from modules.ui.forms import Maker
from modules.ui.painter import painter
from modules.ui.prompt_box import prompt_box
from modules.ui.toolkit import gr

KIND = Inpaint
TITLE = "Inpaint"
STARTS = [("its blurred surroundings", "blurred"), ("what is there", "original"), ("noise", "noise")]


def fields(engine: Any) -> dict[str, Any]:
    """The easel, the prompt and the strength; behind a fold, how the mask is used and where to extend."""
    make = Maker(engine, KIND)
    easel = painter("inpaint-easel", masked=True)
    words = prompt_box(
        make, "Prompt", elem_id="inpaint-prompt", lines=2, max_lines=8,
        placeholder="What should be there instead? For example: a red apple",
    )  # fmt: skip
    strength = make.slider(
        "strength",
        "Strength",
        elem_id="inpaint-strength",
        info="Less than 1 keeps something of what is there.",
    )
    gr.HTML(
        "<p>What you do not paint over comes back as it was, to the last bit.</p>",
        elem_classes="aside",
        apply_default_css=False,
    )
    with gr.Accordion("Mask and borders", open=False, elem_id="inpaint-more"):
        guidance = make.slider("guidance_scale", "Guidance", elem_id="inpaint-guidance", reach=15)
        start = make.choice(
            "start_from",
            "Start the painted part from",
            STARTS,
            info="At strength 1 it is hardly more than a tint.",
        )
        with gr.Row(elem_classes="pair"):
            grow = make.slider("mask_grow", "Grow mask", min_width=100)
            feather = make.slider("mask_feather", "Soften edge", min_width=100)
        only = gr.Checkbox(
            engine.default(KIND, "only_masked"),
            label="Only the masked region, at full resolution",
            elem_id="only_masked",
        )
        padding = make.slider("padding", "Surroundings it sees then")
        gr.HTML("<p>Extend the picture, by pixels:</p>", elem_classes="aside", apply_default_css=False)
        with gr.Row(elem_classes="pair"):
            left = make.slider("extend_left", "Left", min_width=100)
            right = make.slider("extend_right", "Right", min_width=100)
        with gr.Row(elem_classes="pair"):
            up = make.slider("extend_up", "Up", min_width=100)
            down = make.slider("extend_down", "Down", min_width=100)
    return {
        "image": easel, "mask": easel, **words, "strength": strength, "guidance_scale": guidance,
        "start_from": start, "mask_grow": grow, "mask_feather": feather, "only_masked": only,
        "padding": padding, "extend_left": left, "extend_right": right, "extend_up": up, "extend_down": down,
    }  # fmt: skip
