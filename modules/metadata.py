"""How a picture was made goes into its PNG and comes back here: our recipe, A1111's text, IPTC's mark."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.tasks import KINDS, LARGEST_SEED, Task, TaskError, TextToImage

INFOTEXT_CHUNK = "parameters"
RECIPE_CHUNK = "epsilon_studio"
LONGEST_CHUNK = 1_000_000
XMP_CHUNK = "XML:com.adobe.xmp"
EXIF, USER_COMMENT = 0x8769, 0x9286
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{source}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""

SCHEDULE_TYPES = {  # our names and A1111's "Schedule type"
    "default": "Normal",
    "trailing": "SGM Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "ays": "Align Your Steps",
}
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


@dataclass(frozen=True)
class Recipe:
    """What a picture says of its making: the Task, the whole info if ours, and what could not be read."""

    task: Task | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def write_png(picture: Image.Image, path: Path, info: Mapping[str, Any], index: int = 0) -> None:
    """Write a picture and its recipe, whole or not at all; `index` is its place in the batch.

    The file appears under its name only when every byte is on the disk. OSError if the disk refuses.
    """
    chunks = PngInfo()
    chunks.add_itxt(INFOTEXT_CHUNK, infotext({**info, "seed": info["seeds"][index]}))
    chunks.add_itxt(RECIPE_CHUNK, json.dumps({**info, "index": index}, ensure_ascii=False, allow_nan=False))
    chunks.add_itxt(XMP_CHUNK, XMP.format(source=SOURCE_TYPES + source_type(info)))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("wb") as stream:
            picture.save(stream, "PNG", pnginfo=chunks)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def source_type(info: Mapping[str, Any]) -> str:
    """IPTC's word for where a picture comes from: a model alone, or a model and another picture."""
    return "compositeWithTrainedAlgorithmicMedia" if info.get("edited") else "trainedAlgorithmicMedia"


def read(picture: Image.Image) -> Recipe:
    """The recipe of a picture made here or by A1111 and its kin; an empty one if it carries none.

    PNG carries it in text chunks, JPEG and WebP in the Exif comment.
    """
    chunks = picture.info
    if RECIPE_CHUNK not in chunks and INFOTEXT_CHUNK not in chunks:
        chunks = getattr(picture, "text", None) or chunks  # behind the pixels, which are decoded for it
    ours, theirs = chunks.get(RECIPE_CHUNK), chunks.get(INFOTEXT_CHUNK) or _exif_comment(picture)
    if isinstance(ours, str) and len(ours) <= LONGEST_CHUNK:
        return _from_ours(ours)
    if isinstance(theirs, str) and len(theirs) <= LONGEST_CHUNK:
        return from_infotext(theirs)
    return Recipe()


def infotext(info: Mapping[str, Any]) -> str:
    """The recipe as the three lines that A1111, Forge and most galleries understand."""
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


def adapters(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The adapters that a picture was made with; what a stranger's recipe has in their place is left out."""
    listed = info.get("adapters")
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def from_infotext(source: str) -> Recipe:
    """The Task that an infotext describes; what has no place in a Task, or no sense, is listed as unread."""
    *words, last = source.strip().split("\n")
    pairs = {name.strip(): _unquoted(value) for name, value in _PAIR.findall(last)}
    if "Steps" not in pairs:
        words, pairs = [*words, last], {}
    prompt, _, negative = "\n".join(words).partition("Negative prompt:")
    values: dict[str, Any] = {"prompt": prompt.strip(), "negative_prompt": negative.strip()}
    kind = "class_conditional" if "Class" in pairs else TextToImage.kind
    names = INFOTEXT_FIELDS | {"Class": "class_name", "Class scale": "class_scale"}
    for name, target in names.items():
        if name in pairs:
            said = pairs.pop(name)
            numeric = "limits" in KINDS[kind].__dataclass_fields__[target].metadata
            values[target] = _number(said) if numeric else said
    if size := _SIZE.fullmatch(pairs.pop("Size", "")):
        values["width"], values["height"] = int(size[1]), int(size[2])
    if spacing := pairs.pop("Schedule type", ""):
        ours = {theirs: ours for ours, theirs in SCHEDULE_TYPES.items()}
        values["schedule"] = ours.get(spacing, spacing)
    for known in ("Version", "Model hash", *ADAPTER_HASHES.values()):
        pairs.pop(known, None)
    return _recipe(kind, values, {}, list(pairs))


def _exif_comment(picture: Image.Image) -> str | None:
    """The Exif comment as text: eight bytes name its encoding; some writers of Unicode swap the bytes."""
    comment = picture.getexif().get_ifd(EXIF).get(USER_COMMENT)
    if isinstance(comment, str):
        return comment
    if not isinstance(comment, bytes):
        return None
    code, body = comment[:8], comment[8:]
    if not code.startswith(b"UNICODE"):
        return (
            body.decode("utf-8", "replace")
            if code.startswith(b"ASCII")
            else comment.decode("utf-8", "replace")
        )
    # Latin letters have one zero byte of two: where the zeros stand tells the order.
    little = body[1::2].count(0) > body[::2].count(0)
    return body.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\ufeff\0")


def _from_ours(source: str) -> Recipe:
    try:
        info = json.loads(source)
        kind = info["kind"]
        seeds, index = info["seeds"], info.get("index", 0)
        names = {entry.name for entry in fields(KINDS[kind])}
        values = {name: value for name, value in info.items() if name in names}
        if isinstance(index, int) and 0 < index < len(seeds):  # a picture of a batch, alone, has its own seed
            values |= {"seed": seeds[index] % (LARGEST_SEED + 1), "batch_size": 1}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Recipe(unread=("the recipe itself: it is damaged",))
    return _recipe(kind, values, info, [])


def _recipe(kind: str, values: dict[str, Any], info: dict[str, Any], unread: list[str]) -> Recipe:
    """The Task of these values, without those that it refuses, which are listed with the reason."""
    while True:
        try:
            return Recipe(KINDS[kind].from_dict(values), info, tuple(unread))
        except TaskError as error:
            if error.field not in values:
                return Recipe(None, info, (*unread, str(error)))
            del values[error.field]
            unread.append(str(error))


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


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder, and needs no telling
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
