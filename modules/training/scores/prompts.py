"""The requests by which Pocket is scored, each with what its picture must show."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from modules.tasks import ClassConditional, TextToImage
from modules.training.scores.asking import Asked, Wanted, likes
from modules.training.toyland.captions import COUNTS, STYLE_WORDS, article, plural
from modules.training.toyland.colours import GROUNDS, PAINTS
from modules.training.toyland.compose import PLACES, RELATIONS, are_held_out, is_pair_held_out
from modules.training.toyland.emoji import CLASS_NAMES, CLASSES

SYNONYMS = Path(__file__).with_name("synonyms.json")
NAMES = dict(zip(CLASSES, CLASS_NAMES))
LABELS = dict(zip(CLASS_NAMES, CLASSES))
GUIDANCE = 4.0
CLEAR = (
    "red heart", "red apple", "automobile", "cat face", "pizza", "star", "rocket", "fish", "balloon", "tulip",
    "house", "umbrella", "t-shirt", "mushroom", "penguin", "deciduous tree",
)  # fmt: skip
"""Things of one clear shape: of these several are asked for at once, in places and in styles."""


def said(prompt: str, seed: int, **wanted: object) -> Asked:
    """A request in words, and what must be seen."""
    return Asked(TextToImage(prompt=prompt, guidance_scale=GUIDANCE, seed=seed), Wanted(**wanted))  # type: ignore[arg-type]


def things() -> Iterator[Asked]:
    """Every common thing by its everyday name alone."""
    for i, label in enumerate(CLASSES):
        yield said(NAMES[label], 1000 + i, things=(likes(label),))


def painted() -> Iterator[Asked]:
    """Things in colours that nobody saw them in, on a ground of another colour."""
    colours = [word for word in PAINTS if word not in ("black", "white", "gray")]
    for i, label in enumerate(CLASSES[::2]):
        unseen = [word for word in colours if is_pair_held_out(label, word)]
        if not unseen:
            continue
        colour = unseen[i % len(unseen)]
        grounds = [word for word in GROUNDS if colour not in word]
        ground = grounds[i % len(grounds)]
        yield said(
            f"{article(colour)} {NAMES[label]} on {article(ground)} background", 2000 + i,
            things=(likes(label),), colour=colour, ground=ground,
        )  # fmt: skip


def counts() -> Iterator[Asked]:
    """One, two and three of a thing."""
    for i, label in enumerate(CLEAR[:12]):
        for count, word in COUNTS.items():
            name = article(NAMES[label]) if count == 1 else f"{word} {plural(NAMES[label])}"
            yield said(
                f"{name} on a white background", 3000 + 3 * i + count, things=(likes(label),), count=count
            )


def relations() -> Iterator[Asked]:
    """Two things that nobody saw together, one left of, right of, above or below the other."""
    rng, words = np.random.default_rng(0), {"left of": "to the left of", "right of": "to the right of"}
    for i in range(40):
        while True:
            one, other = rng.choice(CLASSES, 2, replace=False)
            if are_held_out(one, other) and not set(likes(one)) & set(likes(other)):
                break
        relation = list(RELATIONS)[i % 4]
        yield said(
            f"{article(NAMES[one])} {words.get(relation, relation)} {article(NAMES[other])}", 4000 + i,
            things=(likes(one), likes(other)), relation=relation,
        )  # fmt: skip


def places() -> Iterator[Asked]:
    """One small thing in each of nine places."""
    for i, place in enumerate(PLACES):
        for k in range(3):
            label = CLEAR[(3 * i + k) % len(CLEAR)]
            yield said(f"a small {NAMES[label]} {place} on a white background", 5000 + 9 * k + i, place=place)


def styles() -> Iterator[Asked]:
    """Things in each of four styles."""
    for i, label in enumerate(CLEAR[:10]):
        for style, words in STYLE_WORDS.items():
            prompt = words[0].format(article(NAMES[label]))
            seed = 6000 + 4 * i + list(STYLE_WORDS).index(style)
            yield said(prompt, seed, things=(likes(label),), style=style)


def classes() -> Iterator[Asked]:
    """Every third class by its token alone, without a word."""
    for i, label in enumerate(CLASSES[::3]):
        task = ClassConditional(class_name=NAMES[label], class_scale=GUIDANCE, seed=7000 + i)
        yield Asked(task, Wanted(things=((label,),)))


def classes_and_words() -> Iterator[Asked]:
    """A class and words together: the token says what, the words say which colour on which ground."""
    for i, one in enumerate(list(painted())[::2]):
        (like,), want = one.wanted.things, one.wanted
        label = next(label for label in like if is_pair_held_out(label, str(want.colour)))
        task = ClassConditional(
            prompt=one.task.prompt, guidance_scale=3.0,
            class_name=NAMES[label], class_scale=2.0, seed=8000 + i,
        )  # fmt: skip
        yield Asked(task, want)


def synonyms() -> Iterator[Asked]:
    """Words that no caption used, for things that captions called something else."""
    for i, (word, name) in enumerate(json.loads(SYNONYMS.read_text("utf-8")).items()):
        yield said(article(word), 9000 + i, things=(likes(LABELS[name]),))


SETS: dict[str, Callable[[], Iterator[Asked]]] = {
    "things": things,
    "painted": painted,
    "counts": counts,
    "relations": relations,
    "places": places,
    "styles": styles,
    "classes": classes,
    "classes and words": classes_and_words,
    "synonyms": synonyms,
}


def some(asked: list[Asked], share: float) -> list[Asked]:
    """A share of the requests, evenly out of all; at least four."""
    count = min(len(asked), max(4, round(len(asked) * share)))
    return [asked[i * len(asked) // count] for i in range(count)]
