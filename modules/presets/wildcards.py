"""Templates become prompts here, by the seed: __animal__ is a line of a list, {red|green} one of the two."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import modules
from modules.tasks import LONGEST_TEXT, Task, TaskError, not_one_of

FOLDER = modules.HOME / "presets" / "wildcards"
MOST_CHOICES = 1000
"""More draws than this for one prompt are lists that name each other in a circle."""

WILDCARD = re.compile(r"__([A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*)__")
CHOICE = re.compile(r"\{([^{}|]*\|[^{}]*)\}")
TASK_FIELDS = ("prompt", "negative_prompt")

T = TypeVar("T", bound=Task)


def resolve(task: T) -> T:
    """The task with its prompts' wildcards and choices made by its seed; resolving twice changes nothing.

    TaskError for a wildcard that has no list.
    """
    texts = {name: resolved(getattr(task, name), task.seed, name) for name in TASK_FIELDS}
    return dataclasses.replace(task, **texts)


def resolved(text: str, seed: int, name: str = "prompt") -> str:
    """A template's prompt for a seed, inner choices first; `name` says whose text it is.

    Each draw hashes the seed and its own number, so that a seed says the same on every machine and in every
    version of Python.
    """
    draws = 0

    def draw(options: Sequence[str]) -> str:
        nonlocal draws
        draws += 1
        if draws > MOST_CHOICES:
            raise TaskError(name, f"The {_spoken(name)} makes more than {MOST_CHOICES:,} choices.")
        digest = hashlib.sha256(f"{seed}/{name}/{draws}".encode()).digest()
        return options[int.from_bytes(digest[:8], "big") % len(options)]

    def listed(found: re.Match[str]) -> str:
        lists, wanted = read_lists(), found[1].lower().replace(" ", "_")
        if wanted not in lists:
            raise TaskError(name, not_one_of(f"A wildcard in the {_spoken(name)}", wanted, list(lists)))
        return draw(lists[wanted])

    before = None
    while text != before:
        before = text
        text = CHOICE.sub(lambda found: draw(found[1].split("|")), text)
        text = WILDCARD.sub(listed, text)
        if len(text) > LONGEST_TEXT:
            raise TaskError(name, f"The {_spoken(name)} grows beyond {LONGEST_TEXT:,} characters.")
    return text


@functools.cache
def read_lists(folder: Path = FOLDER) -> Mapping[str, tuple[str, ...]]:
    """The lists of a folder by name, a text file each; empty lines and those after a # are skipped."""
    lists = {}
    for path in sorted(folder.glob("*.txt")):
        lines = (line.strip() for line in path.read_text("utf-8").splitlines())
        if kept := tuple(line for line in lines if line and not line.startswith("#")):
            lists[path.stem.lower()] = kept
    return MappingProxyType(lists)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
