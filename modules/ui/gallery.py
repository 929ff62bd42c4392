"""The frame where a picture forms, its recipe, and the strip of the pictures made before.

The functions here make the messages that gallery.js understands; nothing else decides what a person reads
while a picture is made.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from modules.ui.toolkit import file_data, gr

HERE = Path(__file__).parent


SENDS = {
    "inpaint": ("Repaint", "Paint over parts of this picture and have them made anew"),
    "image_to_image": ("Vary", "Start the next picture from this one"),
    "instruct_edit": ("Edit", "Change this picture by an instruction"),
}


def gallery(kinds: Sequence[str] = (), answers: Sequence[Callable[..., Any]] = ()) -> gr.HTML:
    """The component; its `select` event carries the recipe to use again, or the tab to send the picture to.

    `kinds`: the tabs of the page; a picture may be sent to those that start from one. `answers` are
    those of line.py; without them there are no jobs, and messages come as values alone.
    """
    sends = "".join(
        f'<button type="button" class="send" data-to="{kind}" title="{hint}">{name}</button>'
        for kind, (name, hint) in SENDS.items()
        if kind in kinds
    )
    return gr.HTML(
        value={"phase": "empty"},
        html_template=(HERE / "gallery.html").read_text(encoding="utf-8").replace("<!-- sends -->", sends),
        js_on_load=(HERE / "gallery.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="gallery",
        server_functions=list(answers),
    )


def waiting(text: str) -> dict[str, Any]:
    """Before the first step: the text says what is being waited for."""
    return {"phase": "waiting", "text": text}


def accepted() -> dict[str, Any]:
    """A job was made; the script looks at how it goes."""
    return {"phase": "accepted", "mark": secrets.token_hex(4)}


def stopped(kept: int = 0) -> dict[str, Any]:
    """After Cancel; `kept` pictures of a sheet are there for when it is asked for again."""
    if kept:
        pictures = f"{kept} picture{'s' if kept > 1 else ''}"
        return {"phase": "stopped", "text": f"Stopped. Generate goes on from the {pictures} that are there."}
    return {"phase": "stopped", "text": "Stopped. Nothing was decoded or saved."}


def note(text: str) -> dict[str, Any]:
    """A sentence under the frame that changes nothing else; the mark makes two equal notes two messages."""
    return {"phase": "note", "text": text, "mark": secrets.token_hex(4)}


def refused(sentence: str) -> dict[str, Any]:
    """The request cannot be served, and why."""
    return {"phase": "refused", "text": sentence, "mark": secrets.token_hex(4)}


def data_url(image: Image.Image) -> str:
    """The image as a JPEG data URL: small enough to send at every step."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=82)
    return jpeg_url(buffer.getvalue())


def jpeg_url(jpeg: bytes) -> str:
    """A JPEG as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def left(seconds: float) -> str:
    """A remaining time as a person says it."""
    return f"{span(seconds)} left"


def span(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min"


def picture(path: Path, info: Mapping[str, Any], index: int, infotext: str, levels: Any) -> dict[str, Any]:
    """One finished picture for the page: its file, the short facts, the whole info, the recipe."""
    recipe = {key: value for key, value in info.items() if not isinstance(value, list | dict)}
    recipe["seed"] = info["seeds"][index]
    if index:  # alone, a later picture of a batch is a batch of one with its own seed
        recipe["batch_size"] = 1
    return {
        "file": file_data(path),
        "title": title(info),
        "seed": str(recipe["seed"]),
        "facts": facts(info, recipe["seed"]),
        "info": [[name, shown(value)] for name, value in (dict(info) | {"seed": recipe["seed"]}).items()],
        "recipe": json.dumps(recipe),
        "infotext": infotext,
        "levels": levels,
    }


def title(info: Mapping[str, Any]) -> str:
    """What the picture shows, in the words of whoever asked for it."""
    words = [str(info.get(name) or "").strip() for name in ("class_name", "prompt")]
    return ", ".join(word for word in words if word) or "No prompt"


def facts(info: Mapping[str, Any], seed: int) -> list[tuple[str, str]]:
    """The few facts that belong under every picture, as (name, value)."""
    found = [("seed", str(seed)), ("", f"{info['sampler']}, {info['schedule']}")]
    found.append(("", f"{info['steps']} steps"))
    if info.get("class_name"):
        found.append(("class guidance", f"{info['class_scale']:g}"))
    if info.get("control_type"):
        found.append((info["control_type"], f"{info['control_scale']:g}"))
    if info.get("control_type_2"):
        found.append((info["control_type_2"], f"{info['control_scale_2']:g}"))
    if info.get("prompt") or info.get("negative_prompt"):
        found.append(("guidance", f"{info['guidance_scale']:g}"))
    if info.get("image_guidance_scale"):
        found.append(("picture guidance", f"{info['image_guidance_scale']:g}"))
    if info.get("strength", 1) < 1:
        found.append(("strength", f"{info['strength']:g}"))
    found.append(("", "{} × {}".format(*info.get("size", (info["width"], info["height"])))))
    found.append(("", f"{info['seconds']:.1f} s"))
    return found


def shown(value: Any) -> str:
    """A value of the info as text; whole numbers keep all their digits."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
