"""How often the judges are right about true pictures is measured here, and what they see in true pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from modules.training.scores.asking import answers, shares, wanted_of
from modules.training.scores.judge import Judge, named
from modules.training.scores.looking import around, cut_out, spots
from modules.training.toyland.compose import Composition, Toyland, is_plain
from modules.training.toyland.emoji import CLASSES

COMPARED = (
    "red heart", "automobile", "cat face", "pizza", "rocket", "star", "grinning face with big eyes", "rose",
)  # fmt: skip
"""Classes, by label, whose true pictures painted ones are compared with: few, so that few pictures do."""
SEED = 10**6  # compositions drawn from this seed on are nobody's training data
LAYOUTS = {"single": 400, "count": 150, "pair": 150}


def held_out(toyland: Toyland, rng: np.random.Generator) -> list[Composition]:
    """So many compositions of each layout of things with a class, in pairs that nothing is trained on."""
    made: dict[str, list[Composition]] = {layout: [] for layout in LAYOUTS}
    while any(len(made[layout]) < count for layout, count in LAYOUTS.items()):
        one = toyland.compose_held_out(rng)
        if all(item.label in CLASSES for item in one.items) and len(made[one.layout]) < LAYOUTS[one.layout]:
            made[one.layout].append(one)
    return [one for some in made.values() for one in some]


def measured(network: Judge, data: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """How often each judge is right about true held-out pictures, and features of true pictures by class."""
    toyland, rng = Toyland(data), np.random.default_rng(SEED)
    made = held_out(toyland, rng)
    told = answers([toyland.render(one) for one in made], [wanted_of(one) for one in made], network)
    alike = compared(toyland, rng)
    return shares(told), {label: seen_of(some, toyland, network) for label, some in alike.items()}


def compared(toyland: Toyland, rng: np.random.Generator, count: int = 64) -> dict[str, list[Composition]]:
    """So many compositions of each of COMPARED, as a class token alone promises it, on every ground."""
    made: dict[str, list[Composition]] = {label: [] for label in COMPARED}
    while any(len(some) < count for some in made.values()):
        one = toyland.compose(rng)
        label = one.items[0].label
        if is_plain(one) and label in COMPARED and len(made[label]) < count:
            made[label].append(one)
    return made


def seen_of(made: list[Composition], toyland: Toyland, network: Judge) -> torch.Tensor:
    """The judge's features of true pictures, (N, width) float16."""
    pictures = [toyland.render(one) for one in made]
    cuts = [cut_out(picture, around(spots(picture))) for picture in pictures]
    return torch.from_numpy(named(cuts, network).features).half()
