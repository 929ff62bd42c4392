"""The adapters on disk: LoRAs, embeddings and IP-Adapters by name, in a folder read when it is asked."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from modules.conditions.named import mentioned
from modules.conditions.tags import taken_out
from modules.models.catalog import UNETS, ModelCard
from modules.tasks import Task, TaskError, not_one_of

LORAS, EMBEDDINGS, IP_ADAPTERS = "lora", "embeddings", "ip_adapter"
PICKLES = (".pt", ".bin", ".ckpt", ".pth", ".pkl")
LONGEST_HEADER = 100_000_000
A1111_VECTORS = "emb_params"
SDXL_VECTORS = ("clip_l", "clip_g")
TEXTS = ("prompt", "negative_prompt")


FIRST_KEY = "ip_adapter.1.to_k_ip.weight"
POOLED = ("image_proj.proj.weight",)
STATES = ("image_proj.proj_in.weight", "image_proj.proj.0.weight")
"""An IP-Adapter's first matrix, which reads the encoder's one vector, or its states before the last layer."""


class Sight(NamedTuple):
    """An IP-Adapter's file, its image encoder's folder, and the width of the U-Net's text that it is for."""

    weights: Path
    encoder: Path
    width: int


@dataclass(frozen=True)
class Wardrobe:
    """A folder with lora/, embeddings/ and ip_adapter/, each of which may be missing, as may all of it."""

    folder: Path | None = None

    def loras(self) -> dict[str, Path]:
        """The LoRA files by name, which is the file's without its ending; subfolders count too."""
        return self._files(LORAS)

    def lora(self, name: str) -> Path:
        """The file of a LoRA, upper case or lower; TaskError, which names near ones, if there is none."""
        found = self.loras()
        fitting = [path for known, path in found.items() if known.lower() == name.lower()]
        if name in found or fitting:
            return found.get(name) or fitting[0]
        if pickled := self._pickled(LORAS, name):
            raise TaskError("prompt", _refusal(pickled))
        if not found:
            where = f"{self.folder / LORAS} holds none" if self.folder else "there is no folder of adapters"
            raise TaskError("prompt", f"The prompt asks for the LoRA {name[:60]!r}, but {where}.")
        raise TaskError("prompt", not_one_of("A LoRA in the prompt", name, list(found)))

    def embeddings(self) -> dict[str, Path]:
        """The files of textual inversions by the names that a prompt may use: the file's and its token's."""
        names: dict[str, Path] = {}
        for name, path in self._files(EMBEDDINGS).items():
            if (shapes := vectors_in(path)) and len(shapes) == 1 and (token := next(iter(shapes))):
                names |= {token: path} if token != A1111_VECTORS else {}
            names[name] = path
        return names

    def called(self, task: Task) -> dict[str, Path]:
        """The embeddings that a task's texts name; TaskError for one that is pickled or is none."""
        found, pickled = self.embeddings(), self._files(EMBEDDINGS, *PICKLES)
        called = {}
        for field in TEXTS:
            text = getattr(task, field)
            for name in mentioned(text, [*found, *pickled]):
                if name not in found:
                    raise TaskError(field, _refusal(pickled[name]))
                if not vectors_in(found[name]):
                    raise TaskError(field, f"{found[name].name} is damaged or no embedding: take it away.")
                called[name] = found[name]
        return called

    def lengths(self) -> dict[str, int]:
        """How many tokens each embedding takes in a prompt, by name."""
        return {
            name: count
            for name, path in self.embeddings().items()
            if (count := max((shape[0] for shape in vectors_in(path).values()), default=0))
        }

    def offers(self) -> list[tuple[str, str]]:
        """Every LoRA and embedding as a person reads it, and as a prompt asks for it."""
        loras = [(f"{name} (LoRA)", f"<lora:{name}:1>") for name in sorted(self.loras(), key=str.lower)]
        learned = sorted(self.lengths(), key=str.lower)
        return [*loras, *((f"{name} (embedding)", name) for name in learned)]

    def sight(self, card: ModelCard) -> Sight | None:
        """The IP-Adapter of a model: one that came for it, else one here that is as wide as its U-Net."""
        own = [each for folder in card.ip_adapters for each in sights_in(folder)]
        here = [*sights_in(self.folder / IP_ADAPTERS)] if self.folder is not None else []
        width = _text_width(card)
        return next((each for each in (*own, *here) if width in (each.width, None)), None)

    def check(self, task: Task, card: ModelCard | None = None) -> None:
        """TaskError, in words, for adapters that a task asks for and that are not here, or not for this."""
        words, tags = taken_out(task)
        for tag in tags:
            self.lora(tag.name)
        asked = [*(tag.name for tag in tags), *self.called(words)]
        if asked and card is not None and card.family not in {"pocket", *UNETS.values()}:
            raise TaskError("prompt", f"{card.title} takes no LoRA or embedding here: take {asked[0]} out.")

    def _files(self, kind: str, *endings: str) -> dict[str, Path]:
        if self.folder is None or not (self.folder / kind).is_dir():
            return {}
        wanted = endings or (".safetensors",)
        paths = sorted(path for path in (self.folder / kind).rglob("*") if path.suffix in wanted)
        return {path.stem: path for path in reversed(paths) if path.is_file()}

    def _pickled(self, kind: str, name: str) -> Path | None:
        return self._files(kind, *PICKLES).get(name)


def no_sight(title: str) -> str:
    """The sentence for an image prompt where there is nothing to see it with."""
    return f"image_prompt is a picture, but {title} has no IP-Adapter here to look at it with."


def sights_in(folder: Path) -> Iterator[Sight]:
    """The IP-Adapters in a folder, each with an image encoder from there that gives what it reads."""
    if not folder.is_dir():
        return
    encoders = [path.parent for path in sorted(folder.rglob("config.json")) if _json(path).get("patch_size")]
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            shapes = {name: entry.get("shape", [0]) for name, entry in header(path).items()}
        except (OSError, ValueError):
            continue
        if FIRST_KEY not in shapes:
            continue
        pooled = next((shapes[name][-1] for name in POOLED if name in shapes), None)
        states = next((shapes[name][-1] for name in STATES if name in shapes), None)
        for encoder in encoders:
            config = _json(encoder / "config.json")
            if (config.get("projection_dim"), config.get("hidden_size"))[pooled is None] == (
                pooled or states
            ):
                yield Sight(path, encoder, shapes[FIRST_KEY][-1])
                break


def _text_width(card: ModelCard) -> int | None:
    return _json(card.part("unet") / "config.json").get("cross_attention_dim")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def vectors_in(path: Path) -> Mapping[str, tuple[int, int]]:
    """The tensors of a textual inversion by their names, each (vectors, width); none if it is no such file.

    One tensor named "emb_params" is A1111's way, one of another name diffusers', and two are SDXL's.
    """
    try:
        listed = header(path)
    except (OSError, ValueError):
        return {}
    shapes = {name: entry.get("shape", ()) for name, entry in listed.items() if name != "__metadata__"}
    if len(shapes) != 1 and set(shapes) != set(SDXL_VECTORS):
        return {}
    if not all(len(shape) in (1, 2) for shape in shapes.values()):
        return {}
    return {name: (1, *shape) if len(shape) == 1 else tuple(shape) for name, shape in shapes.items()}


def header(path: Path) -> Mapping[str, Any]:
    """What a safetensors file says of its tensors, before them; ValueError if it does not, OSError."""
    status = path.stat()
    return _header(path, status.st_mtime_ns, status.st_size)


def short_hash(path: Path, *, whole: bool = True) -> str:
    """Twelve hex digits of a file's sha256; not `whole`: of its tensors alone, as A1111 names LoRAs."""
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size, whole)


@functools.lru_cache(maxsize=4096)
def _header(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(size, LONGEST_HEADER):
            raise ValueError("no header")
        found = json.loads(stream.read(length))
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError("no header")
    return found


@functools.lru_cache(maxsize=4096)
def _hash(path: Path, changed: int, size: int, whole: bool) -> str:
    with path.open("rb") as stream:
        if not whole:
            stream.seek(int.from_bytes(stream.read(8), "little") + 8)
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def _refusal(path: Path) -> str:
    return (
        f"{path.name} is pickled, which can run any program when opened, so it is not read here. "
        f"Look for {path.stem}.safetensors, or convert it once with a tool that you trust."
    )
