"""The easel of the page: a picture is brought here by hand, and painted over where it may change.

What it holds travels as {"picture": {"path", ...}, "mask": data URL of a PNG or None}; it is read here and
nowhere else, because a browser may send anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from modules import images
from modules.tasks import TaskError
from modules.ui.toolkit import file_data, get_upload_folder, gr

HERE = Path(__file__).parent
LONGEST_MASK = 8_000_000  # characters; the page's masks have at most 1024 pixels a side
PREFIX = "data:image/png;base64,"


def painter(elem_id: str, *, masked: bool) -> gr.HTML:
    """The component; `masked` says whether there is a brush."""
    return gr.HTML(
        value={},
        html_template=(HERE / "painter.html").read_text(encoding="utf-8").replace("{{masked}}", str(masked)),
        js_on_load=(HERE / "painter.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="painter",
    )


def read(name: str, value: Any) -> Image.Image | None:
    """The field `name` of what an easel holds: "mask" for where it was painted over, else the picture.

    None where there is none. PictureError or TaskError, in words, for what cannot be used.
    """
    if not isinstance(value, Mapping) or not isinstance(held := value.get("picture"), Mapping):
        return None
    picture = images.open_picture(uploaded(name, held.get("path")))
    if name != "mask":
        return picture
    mask = _from_data_url(value.get("mask"))
    return mask and mask.resize(picture.size, Image.Resampling.NEAREST)


def holding(path: Path) -> dict[str, Any]:
    """What makes an easel show the picture in a file that gradio serves; paint that fits it stays."""
    return {"picture": file_data(path)}


def uploaded(name: str, path: Any) -> Path:
    """The path, if it is one that gradio keeps for the page; TaskError for any other file of this machine."""
    found = Path(str(path)).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()):
        raise TaskError(name, f"{name} is not a file that was sent to this page: choose it again.")
    return found


def _from_data_url(url: Any) -> Image.Image | None:
    if url is None:
        return None
    if not isinstance(url, str) or not url.startswith(PREFIX) or len(url) > LONGEST_MASK:
        raise TaskError("mask", "mask is not a painting of this page: paint it again.")
    try:
        return images.open_mask(base64.b64decode(url.removeprefix(PREFIX), validate=True))
    except binascii.Error as error:
        raise TaskError("mask", "mask was damaged on its way here: paint it again.") from error
