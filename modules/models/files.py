"""Model files on disk are checked and read here: manifest, JSON, safetensors; no pickle and no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from modules.models.catalog import CONTROLNETS, ModelCard
from modules.models.originals import PICKLES, FileError, header

MANIFEST = "manifest.json"
PICKLED = (
    "{folder} holds only pickled weights, which can run any program when opened. If you "
    "trust them, convert them once: load them with diffusers, then pipeline.save_pretrained(folder)."
)


class LoadError(RuntimeError):
    """A model that cannot be loaded; the message is a sentence that says what is wrong and what helps."""


def fingerprint_of(card: ModelCard) -> str:
    """The fingerprint of a card's folder, or of its file and configurations; LoadError as `fingerprint`."""
    if card.configs is None:
        return fingerprint(card.folder)
    own = fingerprint_of_file(card.folder)
    return hashlib.sha256(f"{own} {fingerprint(card.configs)}".encode()).hexdigest()[:10]


def fingerprint(folder: Path, skipped: Collection[str] = (CONTROLNETS,)) -> str:
    """The first ten hex digits of a sha256 over every weight and config of a model, checking them on the way.

    With a manifest, each listed file must have the listed size and sha256 (LoadError if not), and only listed
    files may be read. Without one, the files are hashed as they are. The folders in `skipped` are left out:
    ControlNets inside a model's folder have fingerprints of their own.
    """
    if not folder.is_dir():
        raise LoadError(
            f"There is no folder {folder}: the model's files are missing. Copy or download it again."
        )
    files = [path for path in _files(folder) if path.relative_to(folder).parts[0] not in skipped]
    if listed := _manifest(folder, files):
        wanted = {name: entry for name, entry in listed.items() if name.split("/")[0] not in skipped}
        found = {name: _checked(folder, name, entry) for name, entry in wanted.items()}
    else:
        found = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:10]


def fingerprint_of_file(path: Path) -> str:
    """As `fingerprint`, of a single safetensors file; LoadError unless that is whole."""
    try:
        header(path)
    except FileError as error:
        raise LoadError(str(error)) from error
    return _sha256(path)[:10]


def read_json(folder: Path, name: str) -> Any:
    """A JSON file of a model; LoadError if it is missing or damaged."""
    try:
        return json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError as error:
        raise LoadError(f"{folder / name} is missing: copy or download the model again.") from error
    except ValueError as error:
        raise LoadError(
            f"{folder / name} is damaged: it is not JSON. Copy or download the model again."
        ) from error


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a component, by name, out of one safetensors file or many.

    Tensors that were cut along their first axis into "name::0", "name::1", ... are joined again. LoadError if
    a file is missing or damaged, or if all there is is pickled.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in _weight_files(folder):
        try:
            tensors.update(load_file(path))
        except FileNotFoundError as error:
            raise LoadError(f"{path} is missing: copy or download the model again.") from error
        except (SafetensorError, ValueError, OSError) as error:
            raise LoadError(f"{path} is damaged ({error}). Copy or download the model again.") from error
    return _joined(tensors, folder)


def _weight_files(folder: Path) -> list[Path]:
    """The files that an index names; else all there are, or of two precisions the full one."""
    if indices := sorted(folder.glob("*.safetensors.index.json")):
        names = set(read_json(folder, indices[0].name)["weight_map"].values())
        return [folder / Path(name).name for name in sorted(names)]
    files = sorted(folder.glob("*.safetensors"))
    full = [path for path in files if ".fp16." not in path.name and ".non_ema" not in path.name]
    if files:
        return full or files
    if any(path.suffix in PICKLES for path in folder.glob("*")):
        raise LoadError(PICKLED.format(folder=folder))
    raise LoadError(f"{folder} holds no .safetensors file: copy or download the model again.")


def _joined(tensors: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for name in [name for name in tensors if "::" in name]:
        whole, _, index = name.rpartition("::")
        pieces.setdefault(whole, {})[int(index)] = tensors.pop(name)
    for whole, parts in pieces.items():
        if sorted(parts) != list(range(len(parts))):
            raise LoadError(f"{folder} lacks a piece of {whole}: copy or download the model again.")
        tensors[whole] = torch.cat([parts[i] for i in range(len(parts))])
    return tensors


def _manifest(folder: Path, files: list[Path]) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        return {}
    manifest = read_json(folder, MANIFEST)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or not all(_is_entry(entry) for entry in listed.values()):
        raise LoadError(
            f"{folder / MANIFEST} is damaged: it lists no files. Copy or download the model again."
        )
    for path in files:
        if path.suffix == ".safetensors" and path.relative_to(folder).as_posix() not in listed:
            raise LoadError(
                f"{path} is not in the model's manifest: someone put it there. Remove it, or copy again."
            )
    return listed


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
    )


def _checked(folder: Path, name: str, entry: dict[str, Any]) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise LoadError(
            f"{folder / MANIFEST} is damaged: it lists {name}, which is outside the model's folder."
        )
    if not path.is_file():
        raise LoadError(f"{path} is missing: copy or download the model again.")
    size, expected = path.stat().st_size, entry["bytes"]
    if size != expected:
        raise LoadError(
            f"{path} has {size:,} bytes where {expected:,} are right, so it is half a file or another one: "
            "copy or download the model again."
        )
    if (sha := _sha256(path)) != entry["sha256"]:
        raise LoadError(f"{path} is damaged: its checksum is wrong. Copy or download the model again.")
    return sha


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json") and path.is_file()]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
