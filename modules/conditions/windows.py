"""A prompt's tokens are laid into the windows that a text encoder can take; no network is needed for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from modules.conditions.emphasis import Piece, plain

BERT_TOKENS, CLIP_TOKENS = 32, 77
"""The length of one window, the marks at its two ends included."""

MOST_WINDOWS = 8
"""A prompt longer than so many windows is cut, and the picture's record says how many words were lost."""


class Token(NamedTuple):
    """A token by its number, and how much it counts."""

    id: int
    weight: float


def windows_of(
    parts: Sequence[Sequence[Piece]], tokenizer: Tokenizer, room: int
) -> tuple[list[list[Token]], str]:
    """A prompt's tokens in windows of at most `room`, broken between words, and the text that did not fit.

    Every part begins a window of its own.
    """
    windows: list[list[Token]] = [[]]
    for p, part in enumerate(parts):
        if windows[-1]:
            if len(windows) == MOST_WINDOWS:
                return windows, plain(parts[p:])
            windows.append([])
        for i, piece in enumerate(part):
            for start, word in _words(piece.text, tokenizer, room):
                if len(windows[-1]) + len(word) > room:
                    if len(windows) == MOST_WINDOWS:
                        left = [Piece(piece.text[start:]), *part[i + 1 :]]
                        return windows, plain([left, *parts[p + 1 :]])
                    windows.append([])
                windows[-1] += [Token(token, piece.weight) for token in word]
    return windows, ""


def _words(text: str, tokenizer: Tokenizer, room: int) -> Iterator[tuple[int, list[int]]]:
    """Where each word of a text begins, and its tokens; a word longer than `room` comes in several."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    word: list[int] = []
    for i, token in enumerate(encoding.ids):
        word.append(token)
        ends = i + 1 == len(encoding.ids) or encoding.word_ids[i + 1] != encoding.word_ids[i]
        if ends or len(word) == room:
            yield encoding.offsets[i + 1 - len(word)][0], word
            word = []


def padded(windows: Sequence[list[Token]], count: int) -> list[list[Token]]:
    """The windows, and empty ones after them until there are `count`."""
    return [*windows, *([] for _ in range(count - len(windows)))]
