"""The tab where a picture keeps to a map: a pose drawn here, or what a picture that is sent in shows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from modules.tasks import Controlled
from modules.ui import pose_editor, second_map
from modules.ui.forms import Maker, as_field
from modules.ui.models import Follower
from modules.ui.prompt_box import prompt_box
from modules.ui.toolkit import file_data, gr, served_picture

KIND = Controlled
TITLE = "ControlNet"
SPOKEN = {"pose": "Pose", "depth": "Depth", "canny": "Edges"}
WANTED = {
    "pose": "Add a person, choose a pose, or give a picture of a skeleton.",
    "depth": "Add a shape, or give a depth map: grey, near is white.",
    "canny": "Give any picture: its edges are the map.",
}


def fields(engine: Any) -> dict[str, gr.components.Component]:
    """Prompt, what to control, the map and its editor, and how strictly to keep to it."""
    make = Maker(engine, KIND)
    kinds = engine.controls(engine.default_model)
    prompt = prompt_box(
        make,
        "Prompt",
        elem_id="control-prompt",
        lines=2,
        max_lines=8,
        placeholder="For example: a person on a green background",
    )
    kind = gr.Radio(
        spoken(kinds),
        value="pose" if "pose" in kinds else next(iter(kinds), None),
        label="Keep to a",
        elem_id="control_type",
    )
    editor = pose_editor.editor(engine)
    upload = gr.UploadButton(
        "Map from a picture…",
        elem_id="control-upload",
        file_types=[".png", ".jpg", ".jpeg", ".webp"],
        type="filepath",
    )
    chosen = gr.File(visible=False, type="filepath")
    scale = make.slider("control_scale", "Control strength", info="0 ignores the map, 1 is usual.")
    with gr.Accordion("When it holds, and more", open=False, elem_id="control-more", elem_classes="more"):
        with gr.Row(elem_classes="pair"):
            start = make.slider("control_start", "Holds from", min_width=100)
            end = make.slider("control_end", "until", min_width=100)
        gr.Markdown("As a share of the steps: 0 is pure noise, 1 the picture.", elem_classes="hint")
        guidance = make.slider("guidance_scale", "Guidance", elem_id="control-guidance", reach=15)
        detect = gr.Radio(
            [("if it is no map yet", "auto"), ("always", "always"), ("never", "never")],
            value="auto",
            label="Read the map out of the picture",
            elem_id="detect",
        )
    with gr.Accordion("A second map", open=False, elem_id="control-second", elem_classes="more"):
        second = second_map.fields(make, spoken(kinds))
    return prompt | {
        "control_type": kind,
        "control_image": chosen,
        "control_scale": scale,
        "control_start": start,
        "control_end": end,
        "guidance_scale": guidance,
        "detect": detect,
        "editor": editor,
        "upload": upload,
        **second,
    }


def spoken(kinds: list[str]) -> list[tuple[str, str]]:
    """The control types as the page calls them."""
    return [(SPOKEN.get(name, name.capitalize()), name) for name in kinds]


def follow(engine: Any, parts: Mapping[str, Any]) -> Follower:
    """The control types are those that the model has a ControlNet for; one that it has too stays chosen."""
    lists = [parts["control_type"], parts["control_type_2"]]

    def answer(model: str, now: str | None, second: str) -> dict[Any, Any]:
        kinds = engine.controls(model)
        first = now if now in kinds else next(iter(kinds), None)
        also = second if second in kinds else ""
        return {
            lists[0]: gr.update(choices=spoken(kinds), value=first),
            lists[1]: gr.update(choices=[second_map.NONE, *spoken(kinds)], value=also),
        }

    return Follower(lists, lists, answer)


def wire(engine: Any, parts: Mapping[str, Any]) -> None:
    """Whatever changes the map is answered with what the network will see, or with why that is nothing."""
    second_map.wire(engine, parts)
    names = ("control_type", "detect", "width", "height")
    editor, upload = parts["editor"], parts["upload"]

    def answer(
        event: gr.EventData, shown: Any, path: str | None, *values: Any
    ) -> tuple[dict[str, Any], str | None]:
        asked = {name: as_field(KIND, name, value) for name, value in zip(names, values, strict=True)}
        return answered(engine, shown or {}, path, asked, _sent(event, editor, upload))

    gr.on(
        [editor.input, upload.upload, *(parts[name].change for name in names)],
        answer,
        [editor, upload, *(parts[name] for name in names)],
        [editor, parts["control_image"]],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def answered(
    engine: Any, shown: Mapping[str, Any], path: str | None, asked: Mapping[str, Any], sent: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """The editor's message and the control picture's file, after `sent`: people, JSON, a source, or nothing.

    `shown` is the editor's last message, `path` the last picture sent in, `asked` the fields that shape maps.
    """
    kind, drawing = asked["control_type"], sent.get("source", shown.get("source", "editor")) == "editor"
    message: dict[str, Any] = {
        "source": "editor" if drawing else "upload",
        "kind": kind,
        "width": asked["width"],
        "height": asked["height"],
        "people": shown.get("people", []),
        "shapes": sent.get("shapes", shown.get("shapes", [])),
        "mark": sent.get("mark"),
        "answer": secrets.token_hex(4),  # else an answer like the last one is no news to the page
        "told": WANTED.get(kind, f"Give a {kind} map."),
        "drawn": False,
    }
    try:
        people = engine.read_pose(sent.get("json") or json.dumps(sent.get("people", message["people"])))
        size = KIND(width=asked["width"], height=asked["height"])
        message |= {"people": people, "json": engine.write_pose(people, size.width, size.height)}
        if drawing:
            draws = {"pose": (engine.draw_pose, people), "depth": (engine.draw_shapes, message["shapes"])}
            draw, things = draws.get(kind, (None, None))
            if not draw or not things:
                return message, None
            path = str(served_picture(draw(things, size.width, size.height)))
        if path is None:
            return message, None
        made = engine.control_map(KIND(**asked, control_image=path))
    except ValueError as refusal:
        return message | {"told": str(refusal), "refused": True}, None
    told = "This is the map, as the network sees it." if drawing else made.told
    file = file_data(served_picture(made.picture), f"{kind}-map.png")
    return message | {"map": file, "told": told, "drawn": drawing}, path


def _sent(event: gr.EventData, editor: Any, upload: Any) -> dict[str, Any]:
    if event.target is upload:
        return {"source": "upload"}
    if event.target is editor and isinstance(event._data, dict):
        return {"source": "editor"} | event._data
    return {}
