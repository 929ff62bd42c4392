"""Presets are read here: Tasks with blanks, for what people often come to do."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modules
from modules.data import read_yaml

FILE = modules.HOME / "presets" / "tasks.yaml"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values for some fields of a Task; `kind` is the tab that it is for, "" is any.

    `styles` are to be chosen with it, by model family; `about` tells a person what to expect.
    """

    name: str
    about: str
    kind: str = ""
    fields: Mapping[str, Any]
    styles: Mapping[str, list[str]] = field(default_factory=dict)

    def styles_for(self, family: str) -> list[str]:
        """The styles to choose with it for a family of models; none if it leaves them as they are."""
        return self.styles.get(family, self.styles.get("", []))


@functools.cache
def read_presets(path: Path = FILE) -> Mapping[str, Preset]:
    """The presets of a file, by name."""
    entries = read_yaml(path)
    return {name: Preset(name=name, **entry) for name, entry in entries.items()}
