"""What leads from one picture to its neighbours: the controls for a seed's variations."""

from __future__ import annotations

from typing import Any

from modules.ui.forms import Maker
from modules.ui.toolkit import gr


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
