"""A1111's prompt syntax is read here: (more), [less], (this much:1.3), \\( for a bracket, and BREAK."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from modules.tasks import TaskError

STRONGER = 1.1
"""What one pair of round brackets multiplies by, and one pair of square brackets divides by."""

LARGEST_WEIGHT = 20.0

SIGNS = re.compile(
    r"""\\(?P<itself>[\\()\[\]])
      | (?P<open>[(\[])
      | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
      | (?P<close>[)\]])
      | (?P<pause>\bBREAK\b)""",
    re.VERBOSE,
)
PAIRS = {")": "(", "]": "["}


class Piece(NamedTuple):
    """Words, and how much they count."""

    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[list[Piece]]:
    """The pieces of a prompt, part by part; BREAK stands between parts, and empty parts are dropped.

    As in A1111 a bracket that closes nothing is text, one that is never closed holds to the end, and round
    and square brackets need not nest in one another. TaskError for a weight beyond 20 either way.
    """
    texts: list[str] = []
    pauses: set[int] = set()  # where in `texts` a new part begins
    opened: dict[str, list[int]] = {"(": [], "[": []}
    powers: list[tuple[int, int, int]] = []  # from, to, how many pairs of brackets
    factors: list[tuple[int, int, float]] = []  # from, to, the weight written out
    end = 0
    for sign in SIGNS.finditer(prompt):
        texts.append(prompt[end : sign.start()])
        end, said = sign.end(), sign.lastgroup
        if said == "open":
            opened[sign["open"]].append(len(texts))
        elif said == "weight" and opened["("]:
            factors.append((opened["("].pop(), len(texts), float(sign["weight"])))
        elif said == "close" and opened[PAIRS[sign["close"]]]:
            bracket = PAIRS[sign["close"]]
            powers.append((opened[bracket].pop(), len(texts), 1 if bracket == "(" else -1))
        elif said == "pause":
            pauses.add(len(texts))
        else:
            texts.append(sign["itself"] if said == "itself" else sign[0])
    texts.append(prompt[end:])
    powers += [(start, len(texts), 1) for start in opened["("]]
    powers += [(start, len(texts), -1) for start in opened["["]]
    return _parts(texts, pauses, _weights(len(texts), powers, factors))


def plain(parts: Sequence[Sequence[Piece]]) -> str:
    """The words alone, as they are said: no brackets, a comma for every BREAK."""
    return ", ".join("".join(piece.text for piece in part) for part in parts)


def paused(parts: Sequence[Sequence[Piece]]) -> list[Piece]:
    """All parts as one, with a comma for every BREAK: for encoders to which a new window means nothing."""
    joined = list(parts[0])
    for part in parts[1:]:
        joined += [Piece(", "), *part]
    return _merged(joined)


def _weights(
    count: int, powers: Sequence[tuple[int, int, int]], factors: Sequence[tuple[int, int, float]]
) -> list[float]:
    """The weight of every text: brackets are counted first, so that ([word]) is exactly 1."""
    changes = [0] * (count + 1)
    for start, stop, power in powers:
        changes[start] += power
        changes[stop] -= power
    weights = [1.0] * count
    for start, stop, factor in factors:
        for i in range(start, stop):
            weights[i] *= factor
    try:
        return [weight * STRONGER**power for weight, power in zip(weights, accumulate(changes))]
    except OverflowError as error:
        raise _refusal("very large") from error


def _parts(texts: list[str], pauses: set[int], weights: list[float]) -> list[list[Piece]]:
    parts: list[list[Piece]] = [[]]
    for i, (text, weight) in enumerate(zip(texts, weights)):
        if i in pauses:
            parts.append([])
        if text and not abs(weight) <= LARGEST_WEIGHT:  # NaN, from 0 times infinity, fails too
            raise _refusal(f"{weight:g}")
        parts[-1].append(Piece(text, weight))
    if len(parts) == 1:
        return [_merged(parts[0]) or [Piece("")]]
    return [trimmed for part in parts if (trimmed := _trimmed(_merged(part)))] or [[Piece("")]]


def _refusal(said: str) -> TaskError:
    return TaskError(
        "prompt",
        f"A weight in the prompt is {said}; it must be from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}.",
    )


def _trimmed(part: list[Piece]) -> list[Piece]:
    """The part without the spaces at its ends; nothing if it says nothing."""
    if part:
        part[0] = part[0]._replace(text=part[0].text.lstrip())
        part[-1] = part[-1]._replace(text=part[-1].text.rstrip())
    return [piece for piece in part if piece.text]


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of equal weight as one, so that words are split into tokens as if no brackets were there."""
    merged: list[Piece] = []
    for piece in pieces:
        if not piece.text:
            continue
        if merged and merged[-1].weight == piece.weight:
            merged[-1] = Piece(merged[-1].text + piece.text, piece.weight)
        else:
            merged.append(piece)
    return merged
