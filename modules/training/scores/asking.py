"""What is asked of Pocket and what must then be seen lives here, and whether it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modules.tasks import Task
from modules.training.scores.judge import Judge, Named, named, names
from modules.training.scores.looking import (
    Spot,
    around,
    cut_out,
    ground_word,
    place_word,
    relation_word,
    spots,
    thing_word,
)
from modules.training.toyland.compose import Composition
from modules.training.toyland.emoji import CLASSES


@dataclass(frozen=True)
class Wanted:
    """What a picture must show; what is None or 0 was not asked for. `things`: labels, with their likes."""

    things: tuple[tuple[str, ...], ...] = ()
    colour: str | None = None
    ground: str | None = None
    style: str | None = None
    count: int = 0
    place: str | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request, and what its picture must show."""

    task: Task
    wanted: Wanted


def likes(label: str) -> tuple[str, ...]:
    """The labels of all that captions call by the everyday name of a thing: a cat's face is called a cat."""
    name = names()[label][0]
    return tuple(other for other in CLASSES if name in names()[other])


def wanted_of(made: Composition) -> Wanted:
    """What a true picture shows, as far as its caption could tell."""
    first = made.items[0]
    alone = made.layout == "single"
    return Wanted(
        things=tuple(likes(item.label) for item in (made.items if made.layout == "pair" else made.items[:1])),
        colour=first.colour if alone and first.repainted else None,
        ground=made.ground,
        style=made.style,
        count=len(made.items) if made.layout != "pair" else 0,
        place=made.place if alone and made.size in ("small", "tiny") else None,
        relation=made.relation or None,
    )


def answers(
    pictures: Sequence[np.ndarray], wanted: Sequence[Wanted], network: Judge | None = None
) -> list[dict[str, bool]]:
    """For each picture (H, W, 3) uint8: whether it shows what it must, measure by measure."""
    apart = [spots(picture) for picture in pictures]
    shown = [to_name(found, want) for found, want in zip(apart, wanted)]
    seen = named([cut_out(one, spot) for one, some in zip(pictures, shown) for spot in some], network)
    told, at = list[dict[str, bool]](), 0
    for picture, want, found, some in zip(pictures, wanted, apart, shown):
        right = {
            name: look(picture) == asked
            for name, asked, look in (
                ("colour", want.colour, thing_word),
                ("ground", want.ground, ground_word),
                ("place", want.place, place_word),
                ("count", want.count, lambda _, found=found: len(found)),
            )
            if asked
        }
        if len(want.things) == 1:
            right["thing"] = seen.labels[at] in want.things[0]
        if len(want.things) == 2:
            right |= _pair(want, found[:2], seen, at)
        if want.style:
            right["style"] = bool(some) and seen.styles[at] == want.style
        at += len(some)
        told.append(right)
    return told


def to_name(found: list[Spot], want: Wanted) -> list[Spot | None]:
    """What of a picture the judge is shown: two things one by one, one of several alike, or all there is."""
    if len(want.things) == 2:
        return [*found[:2]]
    return [found[0] if found and want.count > 1 else around(found)]


def _pair(want: Wanted, found: list[Spot], seen: Named, at: int) -> dict[str, bool]:
    """Whether two things are both there, whether they lie as asked, and whether both hold.

    Which of the two spots is the first thing is decided by what the judge holds likelier, so that "relation"
    says where things lie even where their names are in doubt; a coin in place of the names makes it right
    half of the time. Fewer than two spots are never right.
    """
    both = relation = False
    if len(found) == 2:
        rows = [[CLASSES.index(label) for label in like] for like in want.things]
        sure = [[float(np.logaddexp.reduce(seen.things[i, row])) for row in rows] for i in (at, at + 1)]
        order = (1, 0) if sure[0][1] + sure[1][0] > sure[0][0] + sure[1][1] else (0, 1)
        both = all(seen.labels[at + i] in like for i, like in zip(order, want.things))
        relation = relation_word(found[order[0]], found[order[1]]) == want.relation
    return {"both things": both, "relation": relation, "both things, related": both and relation}


def shares(told: Sequence[dict[str, bool]]) -> dict[str, dict[str, float | int]]:
    """How often each measure holds, and in how many pictures it was asked."""
    measures = dict.fromkeys(name for one in told for name in one)
    return {name: share([one[name] for one in told if name in one]) for name in measures}


def share(right: Sequence[bool]) -> dict[str, float | int]:
    """How many of a list are right, as it goes into the scores."""
    return {"right": round(sum(right) / len(right), 3), "pictures": len(right)}
