"""The ControlNet tab's second map lives here: its kind, where it comes from, what is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modules.tasks import Controlled
from modules.ui.forms import Maker, as_field
from modules.ui.toolkit import gr, served_picture

NONE = ("none", "")
WANTED = "Take the map above, or give a picture."
NOTHING = "There is no map above yet: draw one, or give a picture."
TAKEN = "It is the second map now: choose another kind above for the first."


def fields(make: Maker, kinds: Sequence[tuple[str, str]]) -> dict[str, gr.components.Component]:
    """What the second map is of, where it is taken from, the map as the network sees it, and its strength."""
    kind = gr.Radio([NONE, *kinds], value="", label="Keep to a second map, a", elem_id="control_type_2")
    with gr.Row(elem_classes="pair"):
        take = gr.Button("Take the map above", elem_id="control-take", min_width=100)
        upload = gr.UploadButton(
            "From a picture…",
            elem_id="control-upload-2",
            file_types=[".png", ".jpg", ".jpeg", ".webp"],
            type="filepath",
            min_width=100,
            visible=False,
        )
    told = gr.HTML("", elem_id="control-told-2", elem_classes="aside", apply_default_css=False)
    shown = gr.Image(
        label="Second map", elem_id="control-map-2", format="png", height=220, buttons=["download"],
        interactive=False, visible=False,
    )  # fmt: skip
    scale = make.slider("control_scale_2", "Strength of the second map", visible=False)
    return {
        "control_type_2": kind, "take": take, "upload_2": upload, "told_2": told, "shown_2": shown,
        "control_image_2": gr.File(visible=False, type="filepath"), "control_scale_2": scale,
    }  # fmt: skip


def wire(engine: Any, parts: Mapping[str, Any]) -> None:
    """A new kind or picture, or the first map when it is taken over, is answered with the map, or why not."""
    kind, upload, chosen = parts["control_type_2"], parts["upload_2"], parts["control_image_2"]
    names = ("detect", "width", "height")
    above = [parts["control_type"], parts["control_image"]]

    def answer(
        event: gr.EventData, wanted: str, sent: str | None, kept: str | None, *values: Any
    ) -> list[Any]:
        first, path = values[len(names) :], sent if event.target is upload else kept
        if event.target is parts["take"]:
            if first[1] is None:
                return [*[gr.skip()] * 2, f"<p>{NOTHING}</p>", *[gr.skip()] * 3]
            wanted, path = first
        asked = {name: as_field(Controlled, name, value) for name, value in zip(names, values)}
        made, told = seen(engine, wanted, path, asked)
        if made and first == (wanted, path):
            told = TAKEN
        return [
            wanted, gr.update(visible=bool(wanted)), f"<p>{escape(told)}</p>" if told else "",
            gr.update(value=made, visible=made is not None), path, gr.update(visible=bool(wanted)),
        ]  # fmt: skip

    gr.on(
        [kind.change, upload.upload, parts["take"].click],
        answer,
        [kind, upload, chosen, *(parts[name] for name in names), *above],
        [kind, upload, parts["told_2"], parts["shown_2"], chosen, parts["control_scale_2"]],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def seen(engine: Any, kind: str, path: str | None, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    """The file of the map that the network will see, if there is one, and a sentence."""
    if not kind or path is None:
        return None, WANTED if kind else ""
    try:
        made = engine.control_map(Controlled(**asked, control_type=kind, control_image=path))
    except ValueError as refusal:
        return None, str(refusal)
    return str(served_picture(made.picture)), made.told
