"""What people save from the page lives here: presets and styles of their own, a file each in one folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import yaml

from modules.data import read_yaml
from modules.presets.starts import Preset, read_presets
from modules.presets.styles import OWN, Style, read_styles
from modules.tasks import KINDS, TaskError, TextToImage

log = logging.getLogger(__name__)

LONGEST_NAME, MOST = 60, 500
NAME = re.compile(r"\w[\w '&+,()!-]*\w|\w")  # no dot, colon or slash: a name becomes a file's
TAKEN_BY_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)

Kept = TypeVar("Kept", Preset, Style)


class Own:
    """The presets and styles of one folder; each file is written whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def presets(self) -> dict[str, Preset]:
        """Those saved here by name; a file that makes no sense is skipped, and told of in the log."""
        return self._read("presets", _preset)

    def styles(self) -> dict[str, Style]:
        """Those saved here by name, as `presets`."""
        return self._read("styles", _style)

    def save_preset(self, preset: Preset) -> None:
        """Keep a preset under its name, in place of an own one of that name. TaskError for a bad name."""
        checked(preset.name, read_presets())
        entry = {key: value for key, value in asdict(preset).items() if key != "name" and value}
        self._write("presets", preset.name, entry)

    def save_style(self, name: str, prompt: str, negative: str = "", family: str = "") -> None:
        """Keep wording as a style; where it has no {prompt}, that comes first. TaskError for a bad name."""
        checked(name, read_styles().all)
        if not prompt.strip():
            raise TaskError("prompt", "A style needs words: write them into the prompt first.")
        template = prompt if "{prompt}" in prompt else f"{{prompt}}, {prompt.strip(' ,')}"
        self._write("styles", name, {"prompt": template, "negative": negative, "family": family})

    def delete(self, kind: str, name: str) -> bool:
        """Forget a preset or a style that was saved here; whether there was one."""
        if not NAME.fullmatch(name) or kind not in ("presets", "styles"):
            return False
        path = self.folder / kind / f"{name}.yaml"
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed

    def _read(self, kind: str, made: Any) -> dict[str, Any]:
        found = {}
        for path in sorted((self.folder / kind).glob("*.yaml"))[:MOST]:
            try:
                found[path.stem] = made(path.stem, read_yaml(path))
            except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
                log.warning("%s is skipped: %s", path, error)
        return found

    def _write(self, kind: str, name: str, entry: Mapping[str, Any]) -> None:
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{secrets.token_hex(4)}.tmp"
        try:
            with unfinished.open("w", encoding="utf-8") as stream:
                yaml.safe_dump(dict(entry), stream, allow_unicode=True, sort_keys=False)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(unfinished, folder / f"{name}.yaml")
        finally:
            with contextlib.suppress(FileNotFoundError):
                unfinished.unlink()


def checked(name: str, shipped: Mapping[str, Any]) -> None:
    """TaskError, with a sentence, unless the name can be a file's and is not one that ships."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME or TAKEN_BY_WINDOWS.fullmatch(name):
        raise TaskError(
            "name",
            f"name is {name[:LONGEST_NAME]!r}; it may have 1 to {LONGEST_NAME} letters, digits and spaces.",
        )
    if name.casefold() in {each.casefold() for each in shipped}:
        raise TaskError("name", f"{name} ships with the studio: choose another name.")


def _preset(name: str, entry: Mapping[str, Any]) -> Preset:
    preset = Preset(name=name, **{"about": "", "fields": {}, **entry})
    KINDS[preset.kind or TextToImage.kind].from_dict(preset.fields)  # TaskError for what no Task could take
    return preset


def _style(name: str, entry: Mapping[str, Any]) -> Style:
    style = Style(name=name, group=OWN, **{"family": "", **entry})
    if not all(isinstance(text, str) for text in (style.prompt, style.negative, style.family)):
        raise ValueError("its words are no text")
    return style
