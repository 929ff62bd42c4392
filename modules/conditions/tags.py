"""A LoRA is asked for inside the prompt, as <lora:name:0.8>; such tags are read and taken out here."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple, TypeVar

from modules.conditions.emphasis import LARGEST_WEIGHT
from modules.tasks import Task, TaskError

TAG = re.compile(r"<(?P<kind>lora|lyco|hypernet):(?P<said>[^<>]*)>", re.IGNORECASE)
EXAMPLE = "<lora:name:0.8>"

T = TypeVar("T", bound=Task)


class LoraTag(NamedTuple):
    """A LoRA by its name, and its weights in the network and in the text encoders."""

    name: str
    weight: float = 1.0
    text_weight: float = 1.0


def taken_out(task: T) -> tuple[T, tuple[LoraTag, ...]]:
    """The task with a prompt of words alone, and the tags that stood in it, in order.

    As in A1111 one number is the weight, of two the first is for the text encoder and the second for the
    network. TaskError for a tag that says something else, and for one in the negative prompt.
    """
    if TAG.search(task.negative_prompt):
        raise TaskError(
            "negative_prompt",
            "The negative prompt holds a LoRA, which always works on the whole picture: "
            "move it into the prompt. A weight below 0 turns it round.",
        )
    tags = tuple(_read(found) for found in TAG.finditer(task.prompt))
    return (dataclasses.replace(task, prompt=words(task.prompt)) if tags else task), tags


def words(prompt: str) -> str:
    """The prompt without its tags."""
    return TAG.sub("", prompt).strip() if "<" in prompt else prompt


def _read(found: re.Match[str]) -> LoraTag:
    if found["kind"].lower() == "hypernet":
        raise TaskError(
            "prompt", f"{_shown(found[0])} asks for a hypernetwork, which this studio cannot use."
        )
    name, *numbers = (part.strip() for part in found["said"].split(":"))
    try:
        weights = [float(number) for number in numbers]
    except ValueError:
        weights = [float("nan")]
    if not name or len(weights) > 2:
        raise TaskError("prompt", f"{_shown(found[0])} is no LoRA: write {EXAMPLE}.")
    if not all(abs(weight) <= LARGEST_WEIGHT for weight in weights):  # NaN fails too
        raise TaskError(
            "prompt",
            f"The weight in {_shown(found[0])} must be a number from {-LARGEST_WEIGHT:g} to "
            f"{LARGEST_WEIGHT:g}: write {EXAMPLE}.",
        )
    return LoraTag(name, weights[-1], weights[0]) if weights else LoraTag(name)


def _shown(tag: str) -> str:
    return tag if len(tag) <= 60 else tag[:57] + "..."
