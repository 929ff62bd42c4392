"""Captions: true sentences about a composition, in three lengths and many phrasings.

What is unusual is always told: another colour than the thing's own, a small size, a place that is not the
middle, a style that is not 3D. So a name alone means the thing as all know it, large and in the middle.
"""

import numpy as np

from modules.training.toyland.compose import Composition, Item

LENGTHS = {"long": 0.55, "medium": 0.27, "short": 0.18}
STYLE_WORDS = {
    "3d": (
        "a 3D render of {}",
        "a 3D icon of {}",
        "{} in 3D style",
        "a glossy 3D illustration of {}",
        "{}, 3D render",
    ),
    "flat": (
        "a flat icon of {}",
        "a flat illustration of {}",
        "{} in flat style",
        "flat vector art of {}",
        "{}, flat design",
    ),
    "cartoon": (
        "a cartoon of {}",
        "a cartoon drawing of {}",
        "{} in cartoon style",
        "a cartoon sticker of {}",
        "{}, cartoon",
    ),
    "line": (
        "a silhouette of {}",
        "a line icon of {}",
        "{} as a line icon",
        "a simple line drawing of {}",
        "{}, silhouette",
    ),
}
GROUND_WORDS = (
    "on a {} background",
    "on a {} background",
    "against a {} background",
    "in front of a {} backdrop",
    "with a {} background",
)
SIZE_WORDS = {"big": ("big", "large", "huge"), "small": ("small", "little"), "tiny": ("tiny",), "": ("",)}
GRADED = ("gradient", "soft gradient")
COUNTS = {1: "a", 2: "two", 3: "three"}


def plural(name: str) -> str:
    """Put an English noun phrase into the plural: "mouse face" -> "mouse faces", "T-Rex" -> "T-Rexes"."""
    words = name.split(" with ")
    head, rest = words[0], words[1:]
    if head.endswith(("s", "x", "ch", "sh")):
        head += (
            ""
            if head.endswith(("glasses", "cherries", "grapes", "fries", "books", "scissors", "jeans"))
            else "es"
        )
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return " with ".join([head, *rest])


def article(phrase: str) -> str:
    return ("an " if phrase[0].lower() in "aeio" else "a ") + phrase


def _noun(item: Item, rng: np.random.Generator, size: str = "") -> str:
    # The first name is the everyday one; the others keep the network from hanging on one word.
    name = item.names[0] if rng.random() < 0.6 else str(rng.choice(item.names))
    tell = item.colour is not None and (item.repainted or rng.random() < 0.4)
    return " ".join(word for word in (size, item.colour if tell else "", name) if word)


def describe(composition: Composition, rng: np.random.Generator, length: str | None = None) -> str:
    """Write one true caption; `length` is long, medium or short, drawn when None."""
    length = length or str(rng.choice(list(LENGTHS), p=list(LENGTHS.values())))
    items, style = composition.items, composition.style
    size = str(rng.choice(SIZE_WORDS[composition.size]))
    if composition.layout == "single":
        unusual = composition.size in ("small", "tiny")
        subject = _noun(items[0], rng, size if unusual or length != "short" else "")
        subject = article(subject) if length != "short" or rng.random() < 0.5 else subject
        away = composition.place != "in the center"
        if away or (length == "long" and rng.random() < 0.25):
            subject += " " + composition.place
    elif composition.layout == "count":
        noun = _noun(items[0], rng)
        subject = f"{COUNTS[len(items)]} {plural(noun)}"
    else:
        first, second = (article(_noun(item, rng)) for item in items)
        relation = composition.relation
        if length == "short" or rng.random() < 0.2:
            subject = f"{first} and {second}"
        else:
            if rng.random() < 0.3:  # say it from the other side
                first, second = second, first
                relation = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[
                    relation
                ]
            words = {
                "left of": ("to the left of", "left of"),
                "right of": ("to the right of", "right of"),
                "above": ("above", "on top of"),
                "below": ("below", "under"),
            }[relation]
            subject = f"{first} {rng.choice(words)} {second}"
    # Without a word about style a picture is 3D; every other style is always named.
    if (
        style != "3d"
        or (length == "long" and rng.random() < 0.55)
        or (length == "medium" and rng.random() < 0.25)
    ):
        subject = str(rng.choice(STYLE_WORDS[style])).format(subject)
    told = {"long": 1.0, "medium": 0.7, "short": 0.0}[length] * (0.6 if composition.ground == "white" else 1)
    if rng.random() < told:
        shade = composition.ground
        if composition.graded and rng.random() < 0.5:
            shade += " " + str(rng.choice(GRADED))
        subject += " " + str(rng.choice(GROUND_WORDS)).format(shade)
    if rng.random() < 0.25:
        subject = subject[0].upper() + subject[1:]
    return subject + ("." if rng.random() < 0.1 else "")
