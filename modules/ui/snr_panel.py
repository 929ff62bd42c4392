"""The side panel: the noise schedule drawn from the same arrays that the sampling loop walks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from modules.tasks import TextToImage
from modules.ui.forms import Maker
from modules.ui.history import Answer, in_words
from modules.ui.toolkit import gr

HERE = Path(__file__).parent
NOTHING = "nothing"
CURVE_POINTS = 200  # of the training curve's thousand: a line on a screen shows no more
FAR = {"DDPM": 1000}  # samplers meant for more steps than the slider's usual reach
USUAL = 100


@dataclass(frozen=True)
class Panel:
    """The drawing and the four controls that it answers to."""

    plot: gr.HTML
    sampler: gr.Dropdown
    schedule: gr.Dropdown
    steps: gr.Slider
    compare: gr.Dropdown

    @property
    def fields(self) -> dict[str, gr.components.Component]:
        """The controls that are Task fields, by name."""
        return {"sampler": self.sampler, "schedule": self.schedule, "steps": self.steps}


class Place(NamedTuple):
    """What beside the controls decides the levels: the share of the walk, the model, the picture's size."""

    strength: float = 1.0
    model: str | None = None
    width: int | None = None
    height: int | None = None


WHOLE = Place()

CONTROLS = ("sampler", "schedule", "steps", "compare", "model", "width", "height")
"""What the page sends with every change, behind the open tab and before each tab's strength."""


def draws_first(first: str, strengths: Iterable[str], tab: str | None = None) -> str:
    """JavaScript of a listener that has the new curve drawn before the server is asked for anything else.

    `first` is the tab that is open at first, `strengths` are the tabs that have one, and `tab` is the one
    that this event opens, if it opens one.
    """
    names = [first, *CONTROLS, *(f"strength of {name}" for name in strengths)]
    return f"(...sent) => window.epsilon?.walk?.({json.dumps(tab)}, {json.dumps(names)}, sent) ?? sent"


def build(engine: Any) -> Panel:
    """Draws the controls and a plot that is empty until the page has opened, so that start-up stays quick."""
    make = Maker(engine, TextToImage)
    names = engine.samplers()
    plot = gr.HTML(
        value={},
        html_template=(HERE / "snr_panel.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "snr_panel.js").read_text(encoding="utf-8"),
        server_functions=answers(engine),
        apply_default_css=False,
        elem_id="snr",
    )
    with gr.Row(elem_id="solver"):
        sampler = make.choice("sampler", "Sampler", names, min_width=120)
        spacings = engine.spacings(sampler.value)
        schedule = make.choice("schedule", "Spacing", spacings, min_width=120)
    steps = make.slider("steps", "Steps", reach=USUAL)
    compare = gr.Dropdown(_pairs(engine), value=NOTHING, label="Compare with", elem_id="compare")
    return Panel(plot, sampler, schedule, steps, compare)


def changed(
    engine: Any, sampler: str, schedule: str, steps: float, compare: str | None, at: Place = WHOLE
) -> tuple[dict[str, Any], Any, Any]:
    """After any change of the controls: the drawing, this sampler's spacings, how far the steps reach."""
    fits = fitting(engine, sampler, schedule, steps, at.model)
    return curve_message(engine, fits.sampler, fits.schedule, fits.steps, compare, at), *allowed(fits)


class Fitting(NamedTuple):
    """Values of the controls that go together, nearest to those asked for, and what else could be chosen."""

    sampler: str
    schedule: str
    steps: int
    spacings: list[str]
    reach: int


def fitting(engine: Any, sampler: str, schedule: str, steps: float | None, model: str | None) -> Fitting:
    """What the controls must say for a walk to be possible."""
    sampler = _possible(engine, sampler, model)
    spacings = engine.spacings(sampler, model)
    most = engine.limits(TextToImage, "steps").maximum
    reach = min(FAR.get(sampler, USUAL), engine.most_steps(sampler, model), most)
    steps = int(min(max(steps or 1, 1), reach))
    return Fitting(sampler, schedule if schedule in spacings else spacings[0], steps, spacings, reach)


def allowed(fits: Fitting, schedule: str | None = None, steps: float | None = None) -> tuple[Any, Any]:
    """The updates of the controls themselves: the spacings, and how far the steps reach.

    A value that fits as it is stays untold, for whoever sits before the page may have changed it meanwhile.
    """
    spacings, reach = {"choices": fits.spacings}, {"maximum": fits.reach}
    if fits.schedule != schedule:
        spacings |= {"value": fits.schedule}
    if fits.steps != steps:
        reach |= {"value": fits.steps}
    return gr.update(**spacings), gr.update(**reach)


def answers(engine: Any) -> list[Answer]:
    """What the drawing asks for by itself, so that it need not wait for gradio to look at every control."""

    def plan_levels(asked: Mapping[str, Any]) -> dict[str, Any]:
        at = Place(float(asked["strength"]), asked["model"], asked["width"], asked["height"])
        return changed(engine, asked["sampler"], asked["schedule"], asked["steps"], asked["compare"], at)[0]

    return [in_words(plan_levels)]


def another_model(
    engine: Any, sampler: str, schedule: str, steps: float, compare: str | None, at: Place
) -> tuple[Any, ...]:
    """After a change of model: as `changed`, and the samplers and the pairs that it can have."""
    sampler, pairs = _possible(engine, sampler, at.model), _pairs(engine, at.model)
    compare = compare if compare in pairs else NOTHING
    return (
        *changed(engine, sampler, schedule, steps, compare, at),
        gr.update(choices=engine.samplers(at.model), value=sampler),
        gr.update(choices=pairs, value=compare),
    )


def _possible(engine: Any, sampler: str, model: str | None) -> str:
    """The sampler, or where the model cannot have it the one that its card proposes."""
    names = engine.samplers(model)
    proposed = engine.default(TextToImage, "sampler", model)
    return next(name for name in (sampler, proposed, *names) if name in names)


def _pairs(engine: Any, model: str | None = None) -> list[str]:
    names = engine.samplers(model)
    return [NOTHING, *(f"{name}, {spacing}" for name in names for spacing in engine.spacings(name, model))]


def curve_message(
    engine: Any,
    sampler: str,
    schedule: str,
    steps: int,
    compare: str | None = NOTHING,
    at: Place = WHOLE,
) -> dict[str, Any]:
    """The curves for snr_panel.js; a pair or a count that cannot be is told in words instead."""
    message: dict[str, Any] = {"refusal": None, "compare": None}
    try:
        curve = engine.snr_curve(sampler, schedule, steps, **at._asdict())
        message["train"] = thinned(curve["train"])
        message["plan"] = levels_message(
            curve["visited"], f"next: {walked(sampler, schedule, steps, at.strength)}"
        )
        if compare and compare != NOTHING:
            name, _, spacing = compare.rpartition(", ")
            other = engine.snr_curve(name, spacing, steps, **at._asdict())
            message["compare"] = levels_message(other["visited"], walked(name, spacing, steps, at.strength))
    except ValueError as refusal:
        message["refusal"] = str(refusal)
    return message


def walked(sampler: str, schedule: str, steps: int, strength: float = 1.0) -> str:
    """Which levels these are, in a few words."""
    cut = f", begun at strength {strength:g}" if strength < 1 else ""
    return f"{sampler}, {schedule}, {steps} steps{cut}"


def levels_message(levels: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Visited levels for the browser at full precision, with what they belong to; -inf becomes null."""
    columns = {name: _plain(levels[name]) for name in LEVEL_KEYS}
    return columns | {"alphas_cumprod": [alpha * alpha for alpha in levels["alpha"]], "label": label}


def thinned(levels: Mapping[str, Any]) -> dict[str, Any]:
    """The training curve with fewer points and digits than it has, both ends kept."""
    last = len(levels["t"]) - 1
    kept = sorted({round(i * last / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)}) if last else [0]
    whole = levels_message({name: [levels[name][i] for i in kept] for name in LEVEL_KEYS}, "")
    short = {key: [_short(value) for value in values] for key, values in whole.items() if key != "label"}
    return short | {"T": last + 1}


LEVEL_KEYS = ("t", "alpha", "sigma", "snr", "log_snr")


def _plain(values: Iterable[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
