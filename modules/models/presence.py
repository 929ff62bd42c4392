"""Whether a model's files are on this machine, whole: told from names and sizes, without reading weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "manifest.json"
"""Lists a model's files with sizes and checksums; in a folder that was fetched it is written last."""

FETCHING, PLAN = ".fetching", "plan.json"
"""The folder inside a model's folder where files grow while they arrive, and what they will be."""

HERE, MISSING, UNFINISHED, DAMAGED = "here", "missing", "unfinished", "damaged"


class Presence(NamedTuple):
    """One of HERE, MISSING, UNFINISHED, DAMAGED; and what is wrong, in words, where anything is."""

    state: str
    told: str = ""


def presence(folder: Path) -> Presence:
    """How a model's folder, or its single file, stands."""
    if folder.is_file():
        return Presence(HERE)
    if not folder.is_dir():
        return Presence(MISSING, "It is not on this machine.")
    if (folder / MANIFEST).is_file():
        wrong = _not_as_listed(folder)
        return Presence(DAMAGED, wrong) if wrong else Presence(HERE)
    if (folder / FETCHING).is_dir():
        return Presence(UNFINISHED, _how_far(folder))
    lacking = lacks(folder)
    return Presence(DAMAGED, f"{lacking} is missing.") if lacking else Presence(HERE)


def lacks(folder: Path) -> Path | None:
    """The first file that a folder in diffusers' layout should have and has not."""
    index = _json(folder / "model_index.json")
    parts = [name for name, value in index.items() if isinstance(value, list) and value[-1] is not None]
    for part in parts or [""]:
        place = folder / part
        for listing in sorted(place.glob("*.safetensors.index*.json")):
            names = sorted(set(_json(listing).get("weight_map", {}).values()))
            if gone := next((name for name in names if not (place / Path(name).name).is_file()), None):
                return place / gone
        if (place / "config.json").is_file() and not any(place.glob("*.safetensors")) and _is_network(place):
            return place / "diffusion_pytorch_model.safetensors"
    return None


def _is_network(place: Path) -> bool:
    return not any(place.glob("*.bin")) and not {"preprocessor_config.json", "tokenizer_config.json"} & {
        path.name for path in place.iterdir()
    }


def _not_as_listed(folder: Path) -> str:
    listed = _json(folder / MANIFEST).get("files")
    if not isinstance(listed, dict) or not listed:
        return f"{folder / MANIFEST} is damaged."
    for name, entry in listed.items():
        path, size = folder / name, entry.get("bytes") if isinstance(entry, dict) else None
        if not path.is_file():
            return f"{path} is missing."
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size:,} bytes where {size:,} are right."
    return ""


def _how_far(folder: Path) -> str:
    total = _json(folder / FETCHING / PLAN).get("bytes", 0)
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != PLAN)
    return f"Its download stopped at {here / 1e9:.1f} of {total / 1e9:.1f} GB; it goes on from there."


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
