"""Pictures are written with their recipe inside, and read: as PNG, JPEG or WebP, with IPTC's mark."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.metadata import infotext
from modules.metadata.recipe import Recipe, from_json

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
WALKED = ("timesteps", "alpha", "sigma", "snr", "log_snr", "guidance_norm")
"""What follows from the rest of a recipe."""


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
    chunks.add_itxt(INFOTEXT_CHUNK, infotext.write({**info, "seed": info["seeds"][index]}))
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
    text = infotext.write({**info, "seed": info["seeds"][index]})
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
        return from_json(ours)
    if isinstance(theirs, str) and len(theirs) <= LONGEST_CHUNK:
        return infotext.read(theirs)
    return Recipe()


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


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder, and needs no telling
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
