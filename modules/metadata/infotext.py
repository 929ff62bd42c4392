"""The three lines of text in which A1111, Forge and most galleries tell how a picture was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from modules.metadata.recipe import Recipe, adapters, understood
from modules.tasks import KINDS, ImageToImage, Inpaint, TextToImage

SCHEDULE_TYPES = {  # our names and A1111's "Schedule type"
    "default": "Normal",
    "trailing": "SGM Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "ays": "Align Your Steps",
}
OTHER_NAMES = {"PLMS": "PNDM", "DDIM CFG++": "DDIM", "DPM++ 2S a": "DPM++ 2S", "Euler A": "Euler a"}
"""Samplers of other tools, and the nearest here."""

INFOTEXT_FIELDS = {
    "Steps": "steps",
    "Sampler": "sampler",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Model": "model",
    "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength",
}
ADAPTER_HASHES = {"lora": "Lora hashes", "embedding": "TI hashes"}
"""Kinds of adapters, and where A1111's text has their hashes; the prompt itself says which are used."""
_PAIR = re.compile(r'\s*([\w /]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")


def write(info: Mapping[str, Any]) -> str:
    """The recipe of one picture, whose `seed` is its own, as those three lines."""
    schedule = info["schedule"]
    pairs = {
        "Steps": info["steps"],
        "Sampler": info["sampler"],
        "Schedule type": SCHEDULE_TYPES.get(schedule, schedule),
        "CFG scale": _short(info["guidance_scale"]),
        "Seed": info["seed"],
        "Size": f"{info['width']}x{info['height']}",
        "Model hash": info["model_hash"],
        "Model": info["model"],
    }
    if info.get("class_name"):
        pairs |= {"Class": info["class_name"], "Class scale": _short(info["class_scale"])}
    if info.get("variation_strength"):
        pairs["Variation seed"] = info["variation_seed"]
        pairs["Variation seed strength"] = _short(info["variation_strength"])
    if "strength" in info:
        pairs["Denoising strength"] = _short(info["strength"])
    for kind, title in ADAPTER_HASHES.items():
        used = {each.get("name"): each.get("hash") for each in adapters(info) if each.get("kind") == kind}
        if used:
            pairs[title] = ", ".join(f"{name}: {hash}" for name, hash in used.items())
    pairs["Version"] = f"Epsilon Studio {info['versions']['epsilon_studio']}"
    lines = [info["prompt"]]
    if info["negative_prompt"]:
        lines.append(f"Negative prompt: {info['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in pairs.items()))
    return "\n".join(lines)


def read(source: str) -> Recipe:
    """The Task that an infotext describes; what has no place in a Task, or no sense, is listed as unread."""
    *words, last = source.strip().split("\n")
    pairs = {name.strip(): _unquoted(value) for name, value in _PAIR.findall(last)}
    if "Steps" not in pairs:
        words, pairs = [*words, last], {}
    prompt, _, negative = "\n".join(words).partition("Negative prompt:")
    values: dict[str, Any] = {"prompt": prompt.strip(), "negative_prompt": negative.strip()}
    kind, names = _kind_of(pairs)
    for name, target in names.items():
        if name in pairs:
            said = pairs.pop(name)
            numeric = "limits" in KINDS[kind].__dataclass_fields__[target].metadata
            values[target] = _number(said) if numeric else said
    if size := _SIZE.fullmatch(pairs.pop("Size", "")):
        values["width"], values["height"] = int(size[1]), int(size[2])
    values |= _walk_of(values.get("sampler", ""), pairs.pop("Schedule type", ""))
    for known in ("Version", "Model hash", *ADAPTER_HASHES.values()):
        pairs.pop(known, None)
    return understood(kind, values, {}, list(pairs))


def _kind_of(pairs: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What was asked for, and which pairs are fields of it."""
    if "Class" in pairs:
        return "class_conditional", INFOTEXT_FIELDS | {"Class": "class_name", "Class scale": "class_scale"}
    # With a second pass at a higher size, the strength is that pass's.
    if "Denoising strength" in pairs and not any(name.startswith("Hires") for name in pairs):
        kind = Inpaint.kind if any(name.startswith("Mask") for name in pairs) else ImageToImage.kind
        return kind, INFOTEXT_FIELDS | {"Denoising strength": "strength"}
    return TextToImage.kind, INFOTEXT_FIELDS


def _walk_of(sampler: str, spacing: str) -> dict[str, str]:
    """Sampler and spacing by our names; older texts name both in one, as in "DPM++ 2M Karras"."""
    for theirs in ("Karras", "Exponential"):
        if sampler.endswith(f" {theirs}"):
            sampler, spacing = sampler.removesuffix(f" {theirs}"), spacing or theirs
    if not sampler:
        return {}
    names = {theirs: ours for ours, theirs in SCHEDULE_TYPES.items()} | {"Uniform": "default", "": "default"}
    if spacing == "Automatic":  # what A1111 takes by itself
        spacing = "Karras" if sampler.startswith("DPM++") else "Normal"
    return {"sampler": OTHER_NAMES.get(sampler, sampler), "schedule": names.get(spacing, spacing)}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:"\n]', value) else value


def _unquoted(value: str) -> str:
    value = value.strip()
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value


def _number(value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def _short(value: float) -> str:
    return f"{value:g}"
