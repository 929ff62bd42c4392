"""The ControlNet tab's second map lives here: its kind, the picture it comes from, what is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modules.tasks import Controlled
from modules.ui.forms import Maker, as_field
from modules.ui.toolkit import gr, served_picture

NONE = ("none", "")
WANTED = "Give a picture for the second map."


def fields(make: Maker, kinds: Sequence[tuple[str, str]]) -> dict[str, gr.components.Component]:
    """What to take from a second picture, how strictly to keep to it, and the map as the network sees it."""
    kind = gr.Radio([NONE, *kinds], value="", label="Keep to a second map, a", elem_id="control_type_2")
    upload = gr.UploadButton(
        "Second map from a picture…",
        elem_id="control-upload-2",
        file_types=[".png", ".jpg", ".jpeg", ".webp"],
        type="filepath",
        visible=False,
    )
    told = gr.HTML("", elem_id="control-told-2", elem_classes="aside", apply_default_css=False)
    shown = gr.Image(
        label="Second map", elem_id="control-map-2", format="png", interactive=False, visible=False
    )
    scale = make.slider("control_scale_2", "Strength of the second map", visible=False)
    return {
        "control_type_2": kind, "upload_2": upload, "told_2": told, "shown_2": shown,
        "control_image_2": gr.File(visible=False, type="filepath"), "control_scale_2": scale,
    }  # fmt: skip


def wire(engine: Any, parts: Mapping[str, Any]) -> None:
    """A new kind or picture is answered with the map that the network will see, or with why there is none."""
    kind, upload, chosen = parts["control_type_2"], parts["upload_2"], parts["control_image_2"]
    names = ("detect", "width", "height")
    changed = [upload, parts["told_2"], parts["shown_2"], chosen, parts["control_scale_2"]]

    def answer(
        event: gr.EventData, wanted: str, sent: str | None, kept: str | None, *values: Any
    ) -> list[Any]:
        asked = {name: as_field(Controlled, name, value) for name, value in zip(names, values, strict=True)}
        path = sent if event.target is upload else kept
        made, told = seen(engine, wanted, path, asked)
        return [
            gr.update(visible=bool(wanted)), f"<p>{escape(told)}</p>" if told else "",
            gr.update(value=made, visible=made is not None), path, gr.update(visible=bool(wanted)),
        ]  # fmt: skip

    gr.on(
        [kind.change, upload.upload],
        answer,
        [kind, upload, chosen, *(parts[name] for name in names)],
        changed,
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
