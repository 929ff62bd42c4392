"""How a picture was made goes into its file and comes back here: our recipe, A1111's text, IPTC's mark."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.tasks import KINDS, LARGEST_SEED, ImageToImage, Inpaint, Task, TaskError, TextToImage

INFOTEXT_CHUNK = "parameters"
RECIPE_CHUNK = "epsilon_studio"
LONGEST_CHUNK = 1_000_000
XMP_CHUNK = "XML:com.adobe.xmp"
EXIF, USER_COMMENT = 0x8769, 0x9286
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:epsilon="urn:epsilon-studio:recipe" Iptc4xmpExt:DigitalSourceType="{source}">{recipe}
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
XMP_RECIPE = re.compile(r"<epsilon:recipe>(.*?)</epsilon:recipe>", re.DOTALL)
MOST_BYTES = 64_000  # of one record of a JPEG
WALKED = (
    "timesteps",
    "alpha",
    "sigma",
    "snr",
    "log_snr",
    "guidance_norm",
)  # follow from the rest of a recipe

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


@dataclass(frozen=True)
class Recipe:
    """What a picture says of its making: the Task, the whole info if ours, and what could not be read."""

    task: Task | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


class MetadataError(ValueError):
    """A recipe that a file format cannot hold; the message is a sentence for the user."""


def write(picture: Image.Image, path: Path, info: Mapping[str, Any], index: int = 0) -> None:
    """Write a picture and its recipe, whole or not at all; `index` is its place in the batch.

    The name's ending says whether as PNG, JPEG or WebP (without loss). The file appears under its name only
    when every byte is on the disk. OSError if the disk refuses, MetadataError if the recipe does not fit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("wb") as stream:
            stream.write(FORMS[path.suffix](picture, info, index))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _as_png(picture: Image.Image, info: Mapping[str, Any], index: int) -> bytes:
    chunks = PngInfo()
    chunks.add_itxt(INFOTEXT_CHUNK, infotext({**info, "seed": info["seeds"][index]}))
    chunks.add_itxt(RECIPE_CHUNK, json.dumps({**info, "index": index}, ensure_ascii=False, allow_nan=False))
    chunks.add_itxt(XMP_CHUNK, XMP.format(source=SOURCE_TYPES + source_type(info), recipe=""))
    return _saved(picture, "PNG", pnginfo=chunks)


def _as_jpeg(picture: Image.Image, info: Mapping[str, Any], index: int) -> bytes:
    records = {"exif": _exif(info, index), "xmp": _packet({**info, "index": index})}
    if len(records["xmp"]) > MOST_BYTES:  # a walk of a thousand steps; the recipe says how to walk it again
        short = {name: value for name, value in info.items() if name not in WALKED}
        records["xmp"] = _packet({**short, "index": index})
    if max(map(len, records.values())) > MOST_BYTES:
        raise MetadataError("The prompt is too long for a JPEG to hold: save a PNG or a WebP.")
    return _saved(picture.convert("RGB"), "JPEG", quality=95, subsampling=0, **records)


def _as_webp(picture: Image.Image, info: Mapping[str, Any], index: int) -> bytes:
    packet = _packet({**info, "index": index})
    return _saved(picture, "WEBP", lossless=True, exif=_exif(info, index), xmp=packet)


FORMS: dict[str, Callable[[Image.Image, Mapping[str, Any], int], bytes]] = {
    ".png": _as_png,
    ".jpg": _as_jpeg,
    ".jpeg": _as_jpeg,
    ".webp": _as_webp,
}


def _saved(picture: Image.Image, form: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def _exif(info: Mapping[str, Any], index: int) -> bytes:
    """The infotext where A1111 puts it in files without text chunks: the Exif comment, in UTF-16."""
    exif = Image.Exif()
    text = infotext({**info, "seed": info["seeds"][index]})
    exif.get_ifd(EXIF)[USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return exif.tobytes()


def _packet(info: Mapping[str, Any]) -> bytes:
    """The XMP packet that carries the whole recipe; two characters that XML forbids are spelled out."""
    said = escape(json.dumps(info, ensure_ascii=False, allow_nan=False))
    said = said.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    recipe = f"<epsilon:recipe>{said}</epsilon:recipe>"
    return XMP.format(source=SOURCE_TYPES + source_type(info), recipe=recipe).encode("utf-8")


def source_type(info: Mapping[str, Any]) -> str:
    """IPTC's word for where a picture comes from: a model alone, or a model and another picture."""
    return "compositeWithTrainedAlgorithmicMedia" if info.get("edited") else "trainedAlgorithmicMedia"


def read(picture: Image.Image) -> Recipe:
    """The recipe of a picture made here or by A1111 and its kin; an empty one if it carries none.

    PNG carries it in text chunks, JPEG and WebP in the XMP packet and in the Exif comment.
    """
    chunks = picture.info
    if RECIPE_CHUNK not in chunks and INFOTEXT_CHUNK not in chunks:
        chunks = getattr(picture, "text", None) or chunks  # behind the pixels, which are decoded for it
    ours = chunks.get(RECIPE_CHUNK) or _recipe_in_packet(picture)
    theirs = chunks.get(INFOTEXT_CHUNK) or _exif_comment(picture)
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
    return _recipe(kind, values, {}, list(pairs))


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


def _recipe_in_packet(picture: Image.Image) -> str | None:
    packet = picture.info.get("xmp")
    if not isinstance(packet, bytes):
        return None
    found = XMP_RECIPE.search(packet.decode("utf-8", "replace"))
    return unescape(found[1]) if found else None


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
