"""The fold where a finished run is walked again: its component, and the answers to what steps.js asks."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import images
from modules.ui import gallery
from modules.ui.history import Answer, in_words
from modules.ui.painter import uploaded
from modules.ui.toolkit import gr, served

HERE = Path(__file__).parent
AT_ONCE = 8  # moments shown in one answer
VIEWS = {
    "noisy": "what the network is given",
    "clean": "what it has in mind",
    "without": "without the prompt",
    "prompt": "with the prompt",
    "class": "with the class",
    "image": "with the picture",
    "heat": "what guidance adds",
}


def steps(engine: Any) -> gr.HTML:
    """The component over the trajectories that the engine keeps."""
    return gr.HTML(
        value={},
        html_template=(HERE / "steps.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "steps.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="walked",
        server_functions=[in_words(answer) for answer in answers(engine)],
    )


def answers(engine: Any) -> list[Answer]:
    """What the fold may ask for, each a function of the question as the browser sent it."""

    def trajectory(asked: Mapping[str, Any]) -> tuple[Any, int]:
        return engine.trajectories.find(images.open_picture(uploaded("picture", asked.get("path"))))

    def find_steps(asked: Mapping[str, Any]) -> dict[str, Any]:
        walked, _ = trajectory(asked)
        names = walked.names
        return {
            "total": walked.total,
            "moments": [
                {"index": each.index, "t": each.t, "snr": _plain(each.snr), "norm": each.guidance_norm}
                for each in walked.moments
            ],
            "views": {
                "steps": [[name, VIEWS[name]] for name in ("noisy", "clean") if name in names],
                "guidance": [
                    [name, VIEWS.get(name, f"with {name}")]
                    for name in names
                    if name not in ("noisy", "clean")
                ],
            },
        }

    def show_steps(asked: Mapping[str, Any]) -> dict[str, Any]:
        walked, picture = trajectory(asked)
        places = _places(asked.get("places"), len(walked.moments))
        names = [str(name) for name in asked.get("names") or ()][: len(walked.names)]
        frames = walked.frames(places, names, picture, raw=bool(asked.get("raw")))
        shown = ({name: gallery.data_url(image) for name, image in frame.items()} for frame in frames)
        return {"frames": dict(zip(map(str, places), shown))}

    def export_steps(asked: Mapping[str, Any]) -> dict[str, Any]:
        from modules.engine.flipbook import EXPORTS

        made = EXPORTS["zip" if asked.get("how") == "zip" else "gif"](*trajectory(asked))
        try:
            return {"path": str(served(made))}
        finally:
            shutil.rmtree(made.parent)

    return [find_steps, show_steps, export_steps]


def _places(said: Any, count: int) -> list[int]:
    """The moments that a question is about, as far as there are any such."""
    asked = said[:AT_ONCE] if isinstance(said, list) else []
    return [place for place in asked if isinstance(place, int) and 0 <= place < count]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
