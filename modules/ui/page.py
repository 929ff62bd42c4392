"""The one page: what stands where, and the few listeners between its components."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from html import escape
from typing import Any

from modules.engine.jobs import Jobs
from modules.tasks import TextToImage
from modules.ui import (
    adapters,
    explore,
    forecast,
    gallery,
    history,
    lessons,
    line,
    models,
    press,
    prompt_box,
    replay,
    returning,
    saving,
    snr_panel,
    steps,
    theme,
)
from modules.ui.forms import Form, Maker
from modules.ui.tabs import class_conditional, control, image_to_image, inpaint, instruct_edit, text_to_image
from modules.ui.toolkit import gr

FOR_A_CLASS = (text_to_image, class_conditional)  # words alone: nothing is uploaded
TABS = (text_to_image, class_conditional, control, inpaint, image_to_image, instruct_edit)
PATIENCE, WATCHED = 0.3, 400  # seconds between two looks at an engine that warms up, and how many looks

HEADER = """
<header class="masthead">{logo}<h1>Epsilon Studio</h1>
<p>Latent diffusion, with its noise schedule in plain sight.</p></header>
"""


class Page:
    """The components by their names, and the wiring; without `jobs`, a run lives as long as its press."""

    def __init__(self, engine: Any, jobs: Jobs | None = None):
        self.engine = engine
        self.jobs = jobs
        served = engine.shelf.tasks()
        self.locked = engine.settings.classroom
        tabs = FOR_A_CLASS if self.locked else TABS
        self.tabs = {tab.KIND.kind: tab for tab in tabs if tab.KIND.kind in served}

    def assemble(self, blocks: gr.Blocks) -> None:
        """Draws everything, then wires it: no listener is made before all components exist."""
        with gr.Row(elem_id="top"):
            gr.HTML(HEADER.format(logo=theme.LOGO.read_text(encoding="utf-8")), apply_default_css=False)
            self.status = gr.HTML(status_line(False, "Starting…"), elem_id="engine", apply_default_css=False)
        with gr.Row(elem_id="studio", equal_height=False):
            with gr.Column(elem_id="asking", min_width=280):
                self._draw_tabs()
                self.forecast = forecast.build()
                self._draw_more()
                self.explorer = explore.Explorer(
                    {name: tab.KIND for name, tab in self.tabs.items()}, visible=not self.locked
                )
            with gr.Column(elem_id="showing", min_width=280):
                answers = line.answers(self.engine, self.jobs) if self.jobs else ()
                self.gallery = gallery.gallery([tab.KIND.kind for tab in self.tabs.values()], answers)
                steps.steps(self.engine)
                replay.replay(self.engine, None if self.locked else self.jobs)
                history.history(self.engine)
                where = False if self.locked else "hidden"  # in the page, for drops, but not on the screen
                self.dropped = gr.UploadButton(elem_id="dropped", type="filepath", visible=where)
                self.owner = gr.Textbox(visible=False)  # filled by press.OWNED when it is sent
            with gr.Column(elem_id="explaining", min_width=280):
                self.panel = snr_panel.build(self.engine)
                lessons.lessons(self.engine)
        shared = self.more | self.panel.fields
        self.forms = {name: Form.of(tab.KIND, shared | self.own[name]) for name, tab in self.tabs.items()}
        for name, tab in self.tabs.items():
            if hasattr(tab, "wire"):
                tab.wire(self.engine, shared | self.own[name])
        self.open_tab = gr.State(next(iter(self.tabs)))
        self.foretold = forecast.listener(self.engine, self.forecast, self.forms, self.open_tab)
        if self.jobs:
            press.hands_in(self, self.jobs)
        else:
            press.paints(self)
        self.explorer.wire([*self.generate.values()])
        self._wire_panel()
        self.adapters.wire(self.open_tab, {name: form.fields["prompt"] for name, form in self.forms.items()})
        self._wire_model()
        returning.wire(self)
        self._wire_opening(blocks)

    def _draw_tabs(self) -> None:
        self.own: dict[str, dict[str, Any]] = {}
        self.lines: list[prompt_box.Line] = []
        self.generate: dict[str, gr.Button] = {}
        self.cancel: dict[str, gr.Button] = {}
        self.tab: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as self.chooser:
            for name, tab in self.tabs.items():
                with gr.Tab(tab.TITLE, id=name) as self.tab[name]:
                    self.own[name] = tab.fields(self.engine)
                    if line := self.own[name].pop("line", None):
                        self.lines.append(line)
                    self.generate[name] = gr.Button(
                        "Generate", variant="primary", elem_id=f"generate-{name}", elem_classes="generate"
                    )
                    if not self.jobs:
                        self.cancel[name] = gr.Button(
                            "Cancel", visible=False, elem_id=f"cancel-{name}", elem_classes="cancel"
                        )

    def _draw_more(self) -> None:
        make = Maker(self.engine, TextToImage)
        asked = bool(self.engine.shelf.asked)
        with gr.Accordion("More", open=asked, elem_id="more") as self.fold:
            presets = saving.names(self.engine, self.tabs)
            self.preset = gr.Dropdown(presets, value=None, label="Start from a preset", elem_id="preset")
            self.styles = gr.Dropdown(
                prompt_box.choices(self.engine, self.engine.default_model),
                value=[],
                multiselect=True,
                label="Styles",
                info="Improve, beside the prompt, writes them into it.",
                elem_id="styles",
            )
            avoided = prompt_box.prompt_box(
                make,
                "Steer away from",
                name="negative_prompt",
                improves=False,
                lines=1,
                max_lines=4,
                visible=not self.locked,
            )
            self.lines.append(avoided["line"])
            count = make.slider("batch_size", "Pictures at once")
            with gr.Row(elem_classes="pair"):
                width = make.slider("width", "Width", min_width=100)
                height = make.slider("height", "Height", min_width=100)
            with gr.Row(elem_classes="pair", equal_height=True):
                seed = gr.Textbox(
                    label="Seed",
                    placeholder="a new one each time",
                    elem_id="seed",
                    max_length=20,
                    min_width=120,
                )
                self.dice = gr.Button("New each time", elem_id="dice", min_width=110, scale=0)
            varied = explore.variation(make)
            self.adapters = adapters.draw(make)
            self.restore = gr.UploadButton(
                "Settings from a picture…",
                elem_id="restore",
                visible=not self.locked,
                file_types=[".png", ".jpg", ".jpeg", ".webp"],
                type="filepath",
            )
            if not self.engine.history.shared:  # strangers do not name things for each other
                self.saving = saving.Saving()
            self.picker = models.draw(self.engine)
        self.more: dict[str, Any] = {
            "negative_prompt": avoided["negative_prompt"],
            "batch_size": count,
            "width": width,
            "height": height,
            "seed": seed,
            "model": self.picker.model,
            **varied,
            **self.adapters.fields,
        }

    def _wire_model(self) -> None:
        more, engine = self.more, self.engine
        following = [(name, tab) for name, tab in self.tabs.items() if hasattr(tab, "follow")]
        followers = [
            prompt_box.wire(engine, self.lines, more["model"], more["negative_prompt"], self.styles),
            models.tabs(engine, [*self.tabs], self.chooser, self.open_tab),
            *(tab.follow(engine, self.own[name]) for name, tab in following),
            self.panel_follows,
        ]
        taken = models.wire(engine, self.picker, self.fold, self.forms, followers)
        taken.then(**self.foretold)

    def _wire_panel(self) -> None:
        panel = self.panel
        if not self.engine.history.shared:
            self.saving.wire(self, self.open_tab)
        strengths = {
            n: form.fields["strength"] for n, form in self.forms.items() if "strength" in form.fields
        }
        controls = [panel.sampler, panel.schedule, panel.steps, panel.compare]
        place = [self.more[name] for name in ("model", "width", "height")]
        chosen = [panel.schedule, panel.steps]

        def allowed(_now: str, sampler: str, schedule: str, steps: float, *others: Any) -> tuple[Any, ...]:
            fits = snr_panel.fitting(self.engine, sampler, schedule, steps, others[1])
            return snr_panel.allowed(fits, schedule, steps)

        def entered(name: str, _left: str, *values: Any) -> tuple[Any, ...]:
            return name, *allowed(name, *values)

        inputs = [self.open_tab, *controls, *place, *strengths.values()]
        draws = partial(snr_panel.draws_first, next(iter(self.tabs)), [*strengths])
        for name, tab in self.tab.items():
            tab.select(
                partial(entered, name),
                inputs,
                [self.open_tab, *chosen],
                js=draws(name),
                queue=False,
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            ).then(**self.foretold)
        moved = [control.change for control in [*controls, *strengths.values()]]
        moved += [size.input for size in place[1:]]  # their changes have listeners already
        gr.on(
            moved,
            allowed,
            inputs,
            chosen,
            js=draws(),
            queue=False,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        ).then(**self.foretold)
        own = [form.fields.get(name) for form in self.forms.values() for name in forecast.GUIDANCE]
        others = [part.change for part in (*own, self.more["batch_size"]) if part is not None]
        gr.on([*others, self.forecast.tick], **self.foretold)
        sets = [panel.plot, *chosen, panel.sampler, panel.compare]

        def followed(_model: str, now: str, *values: Any) -> dict[Any, Any]:
            sampler, schedule, steps, compare, model, width, height, *shares = values
            strength = dict(zip(strengths, shares, strict=True)).get(now, 1.0)
            at = snr_panel.Place(strength, model, width, height)
            updates = snr_panel.another_model(self.engine, sampler, schedule, steps, compare, at)
            return dict(zip(sets, updates, strict=True))

        self.panel_follows = models.Follower(inputs, sets, followed)

    def _wire_opening(self, blocks: gr.Blocks) -> None:
        panel = self.panel

        def opened(sampler: str, schedule: str, steps: int) -> Iterator[dict[Any, Any]]:
            ready, sentence = self.engine.status()
            yield {self.status: status_line(ready, sentence)}
            curve = snr_panel.curve_message(self.engine, sampler, schedule, steps)
            yield {panel.plot: curve | {"fresh": True}}
            for _ in range(WATCHED):
                told, (ready, sentence) = (ready, sentence), self.engine.status()
                if told != (ready, sentence):
                    yield {self.status: status_line(ready, sentence)}
                if ready:
                    return
                time.sleep(PATIENCE)

        blocks.load(
            opened,
            [panel.sampler, panel.schedule, panel.steps],
            [self.status, panel.plot],
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        ).then(**self.foretold)


def status_line(ready: bool, sentence: str) -> str:
    """What runs where, in one line, for the head of the page."""
    return f'<p class="engine {"ready" if ready else "warming"}" role="status"><i></i>{escape(sentence)}</p>'
