"""The frame that shows the control map, and over it the joints of a pose or the shapes of a depth map.

The map is drawn by the server, so that what is seen is what the network sees; while a joint moves, the script
draws limbs of its own, and the moment it is let go it sends the people and gets the map. An `input` event
carries {"people": [...], "shapes": [...], "mark": n} or {"json": "...", "mark": n}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules.ui.toolkit import gr

HERE = Path(__file__).parent
SCRIPTS = ("pose_editor.js", "shape_editor.js")


def editor(engine: Any) -> gr.HTML:
    """The component; empty until the page shows it, when it sends its first pose by itself."""
    return gr.HTML(
        value={},
        html_template=(HERE / "pose_editor.html").read_text(encoding="utf-8"),
        css_template=(HERE / "pose_editor.css").read_text(encoding="utf-8"),
        js_on_load="".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        apply_default_css=False,
        elem_id="pose-editor",
        skeleton=engine.skeleton(),
        poses=engine.poses(),
        stage=engine.stage(),
    )
