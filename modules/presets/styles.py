"""Styles dress a short prompt here: wording from presets/styles.yaml, laid around what a person wrote."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import modules
from modules.data import read_yaml
from modules.tasks import TaskError, not_one_of

FILE = modules.HOME / "presets" / "styles.yaml"
OWN = "own"
"""The group of the styles that people saved themselves."""

OPENING = re.compile(r"(a|an|the|one|two|three|four|five|some|my)\s+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Style:
    """One wording: `prompt` holds {prompt}, or {article} and {noun}, its two halves.

    `family` is the only model family that it is for; "" is all that have no styles of their own.
    """

    name: str
    group: str
    family: str
    prompt: str
    negative: str = ""


@dataclass(frozen=True)
class Styles:
    """All styles by name, in the order in which they are laid; the words that tell a group was chosen."""

    all: Mapping[str, Style]
    said: Mapping[str, tuple[str, ...]]
    usual: Mapping[str, tuple[str, ...]]

    def of(self, family: str) -> list[Style]:
        """The styles for a family of models, and those of people's own, which are for all."""
        shipped = [style for style in self.all.values() if style.group != OWN]
        fitting = [style for style in shipped if style.family == family]
        people_s = [style for style in self.all.values() if style.group == OWN]
        return (fitting or [style for style in shipped if not style.family]) + people_s

    def with_own(self, own: Mapping[str, Style]) -> Styles:
        """These and people's own, which are laid last."""
        return dataclasses.replace(self, all=MappingProxyType({**self.all, **own}))

    def fitting(self, family: str, prompt: str) -> list[str]:
        """The styles that suit most prompts, less those of a group that the prompt chose from itself."""
        names = self.usual.get(family, self.usual[""])
        words = set(re.findall(r"[\w-]+", prompt.lower()))
        return [name for name in names if words.isdisjoint(self.said[self.all[name].group])]


@functools.cache
def read_styles(path: Path = FILE) -> Styles:
    """The styles of a file."""
    source = read_yaml(path)
    found: dict[str, Style] = {}
    for group in source["groups"]:
        for name, entry in group["styles"].items():
            words = {"prompt": entry} if isinstance(entry, str) else entry
            found[name] = Style(name=name, group=group["name"], family=group.get("family", ""), **words)
    return Styles(
        MappingProxyType(found),
        {group["name"]: tuple(group.get("said", ())) for group in source["groups"]},
        {family: tuple(names) for family, names in source["usual"].items()},
    )


def apply(
    names: Iterable[str], prompt: str, negative: str = "", known: Styles | None = None
) -> tuple[str, str]:
    """The prompt and the negative prompt in these styles of those `known`, always laid in the file's order.

    A style whose words the prompt holds already adds nothing; neither does any where there is no prompt.
    TaskError for a style that is not in the file.
    """
    styles, chosen = (known or read_styles()).all, set(names)
    if unknown := sorted(chosen - set(styles)):
        raise TaskError("styles", not_one_of("styles", unknown[0], list(styles)))
    prompt, negative = prompt.strip(), negative.strip()
    if not prompt:
        return prompt, negative
    for style in styles.values():
        if style.name in chosen:
            prompt, negative = _laid(style.prompt, prompt), _with(negative, style.negative)
    return prompt, negative


def _laid(template: str, prompt: str) -> str:
    """The prompt inside the template; the prompt alone where it says the template's words already."""
    own = [part.strip(" ,") for part in re.split(r"\{\w+\}", template)]
    if all(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", prompt, re.IGNORECASE) for part in own if part):
        return prompt
    opening = OPENING.match(prompt)
    article = opening[1] if opening else "a"
    parts = {
        "prompt": prompt.rstrip(" .,"),
        "article": "a" if article.lower() == "an" else article,
        "noun": prompt[opening.end() :] if opening else prompt,
    }
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], template)


def _with(negative: str, more: str) -> str:
    """Two lists of things to avoid as one, nothing twice."""
    phrases = [phrase.strip() for phrase in f"{negative}, {more}".split(",")]
    return ", ".join(dict.fromkeys(phrase for phrase in phrases if phrase)) if more else negative
