"""The fold where what stands in the controls is saved under a name: as a preset, or its words as a style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.presets import starts
from modules.presets.own import Own
from modules.presets.starts import Preset
from modules.ui import gallery, prompt_box, runs
from modules.ui.forms import Form, as_field
from modules.ui.toolkit import gr

PRESET, STYLE = "presets", "styles"
WHAT = [("all settings, as a preset", PRESET), ("the prompt's words, as a style", STYLE)]
LEFT_OUT = {"model"}  # a preset suits any model


class Saving:
    """A name, what to save, and two buttons."""

    def __init__(self) -> None:
        with gr.Accordion("Save these settings", open=False, elem_id="saving"):
            self.name = gr.Textbox(label="Name", elem_id="save-name", max_length=60, max_lines=1)
            self.what = gr.Radio(WHAT, value=PRESET, label="Save", elem_id="save-what")
            with gr.Row(elem_classes="pair"):
                self.save = gr.Button("Save", elem_id="save", min_width=80)
                self.forget = gr.Button("Delete", elem_id="forget", min_width=80)

    def wire(self, page: Any, open_tab: Any) -> None:
        """Listens to both buttons; the lists of presets and styles on the page follow."""
        parts = list({part: None for form in page.forms.values() for part in spoken(form).values()})
        outputs = [page.preset, page.styles, page.gallery]

        def save(name: str, what: str, tab: str, model: str, *values: Any) -> tuple[Any, ...]:
            form, at = page.forms[tab], dict(zip(parts, values, strict=True))
            fields = {field: as_field(form.kind, field, at[part]) for field, part in spoken(form).items()}
            try:
                told = kept(page.engine.own, name.strip(), what, form, fields)
            except Exception as error:
                told = runs.in_words(error)
            return *lists(page, model), gallery.note(told)

        def forget(name: str, what: str, model: str) -> tuple[Any, ...]:
            gone = page.engine.own.delete(what, name.strip())
            told = (
                f"{name.strip()} is deleted."
                if gone
                else f"There is nothing of your own named {name.strip()!r}."
            )
            return *lists(page, model), gallery.note(told)

        how: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        model = page.more["model"]
        self.save.click(save, [self.name, self.what, open_tab, model, *parts], outputs, **how)
        self.forget.click(forget, [self.name, self.what, model], outputs, **how)


def known(engine: Any) -> dict[str, Preset]:
    """The presets that ship, and those of people's own."""
    return {**starts.read_presets(), **engine.own.presets()}


def names(engine: Any, kinds: Mapping[str, Any]) -> list[str]:
    """The presets that this page has a tab for."""
    return [name for name, preset in known(engine).items() if preset.kind in ("", *kinds)]


def lists(page: Any, model: str) -> tuple[Any, Any]:
    """What the lists of presets and of styles offer now."""
    presets = gr.update(choices=names(page.engine, page.tabs))
    return presets, gr.update(choices=prompt_box.choices(page.engine, model))


def spoken(form: Form) -> dict[str, Any]:
    """The components of a form that a preset holds: all but pictures."""
    fields = form.kind.__dataclass_fields__
    return {
        name: part
        for name, part in form.fields.items()
        if "picture" not in fields[name].metadata and name not in LEFT_OUT
    }


def kept(own: Own, name: str, what: str, form: Form, fields: Mapping[str, Any]) -> str:
    """Save it; the sentence that says so. TaskError, in words, for what cannot be."""
    task = form.kind.from_dict(fields)
    if what == STYLE:
        own.save_style(name, task.prompt, task.negative_prompt)
        return f"{name} is among the styles now; it lays these words around a prompt."
    own.save_preset(
        Preset(
            name=name, about="One of your own.", kind=task.kind, fields=worth_keeping(task.scalars(), fields)
        )
    )
    return f"{name} is among the presets now."


def worth_keeping(values: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were asked for, without a seed that is drawn anew or that nothing is turned towards."""
    drawn = {name for name in ("seed", "variation_seed") if values[name] < 0}
    idle = set() if values["variation_strength"] else {"variation_seed"}
    return {name: values[name] for name in asked if name not in drawn | idle}
