"""Two lessons under the noise schedule: noise poured on a picture, and samplers put to a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.tasks import TextToImage
from modules.ui.history import Answer, in_words
from modules.ui.toolkit import gr

HERE = Path(__file__).parent
DIGITS = 7


def lessons(engine: Any) -> gr.HTML:
    """The component; nothing is computed before a lesson is opened."""
    return gr.HTML(
        value={},
        html_template=(HERE / "lessons.html").read_text(encoding="utf-8"),
        js_on_load="".join((HERE / name).read_text(encoding="utf-8") for name in ("pour.js", "truth.js")),
        apply_default_css=False,
        elem_id="lessons",
        server_functions=[in_words(answer) for answer in answers(engine)],
    )


def answers(engine: Any) -> list[Answer]:
    """What the lessons may ask for, each a function of the question as the browser sent it."""

    def training_levels(_: Mapping[str, Any]) -> dict[str, Any]:
        sampler = engine.default(TextToImage, "sampler")
        train = engine.snr_curve(sampler, engine.spacings(sampler)[0], 1)["train"]
        return {"alphas_cumprod": [round(alpha * alpha, DIGITS) for alpha in train["alpha"]]}

    def list_samplers(_: Mapping[str, Any]) -> dict[str, Any]:
        return {"samplers": {name: engine.spacings(name) for name in engine.samplers()}}

    def meet_truth(asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"outcomes": engine.conformance(str(asked.get("sampler")), str(asked.get("schedule")))}

    return [training_levels, list_samplers, meet_truth]
