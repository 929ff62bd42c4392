"""The finished pictures of sheets that are not finished wait here, each a whole file with its recipe.

A sheet is known by what was asked for, so whoever asks again goes on where it stopped: after a cancel, a
failure, or a kill at any moment. Seeds that were drawn for it are kept too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image

from modules import metadata
from modules.images import FORMATS, open_picture
from modules.tasks import Task

SEEDS = "seeds.json"


def key_of(tasks: Sequence[Task], *more: str) -> str:
    """A name for what was asked for: two requests share it if their tasks, pictures included, are equal."""
    digest = hashlib.sha256("\n".join(more).encode())
    for task in tasks:
        digest.update(f"\n{task.to_json()}".encode())
        for field in fields(task):
            given = getattr(task, field.name)
            if "picture" in field.metadata and given is not None:
                digest.update(open_picture(given).tobytes())
    return digest.hexdigest()[:32]


class Unfinished:
    """The pictures of one unfinished sheet, in a folder of their own."""

    def __init__(self, folder: Path, key: str):
        self.folder = folder / key

    def seeds(self, drawn: Mapping[str, int]) -> dict[str, int]:
        """The seeds drawn when this sheet was begun, or those, which are then its own."""
        path = self.folder / SEEDS
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text("utf-8"))
            return {name: int(kept[name]) for name in drawn}
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{secrets.token_hex(4)}.tmp")
        unfinished.write_text(json.dumps(dict(drawn)), "utf-8")
        os.replace(unfinished, path)
        return dict(drawn)

    def get(self, place: int) -> tuple[Image.Image, dict[str, Any]] | None:
        """The picture at that place and the info of its run, if it was finished."""
        try:
            with Image.open(self._path(place), formats=FORMATS) as picture:
                recipe = metadata.read(picture)
                picture.load()
        except (OSError, SyntaxError, ValueError):
            return None
        info = dict(recipe.info)
        info.pop("index", None)
        return (picture, info) if info else None

    def put(self, place: int, picture: Image.Image, info: Mapping[str, Any]) -> None:
        """Keep a finished picture. OSError if the disk refuses."""
        metadata.write(picture, self._path(place), info)

    def finish(self) -> None:
        """Forget the sheet."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, place: int) -> Path:
        return self.folder / f"{place:03}.png"


def sweep(folder: Path, keep_seconds: float) -> None:
    """Forget the sheets that nothing was added to for so long."""
    if not folder.is_dir():
        return
    for sheet in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            if sheet.stat().st_mtime < time.time() - keep_seconds:
                shutil.rmtree(sheet, ignore_errors=True)
