"""A tokenizer that knows some names as tokens of their own, below 0: vectors were learned for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Encoding(NamedTuple):
    """What of a tokenizer's answer windows are made of."""

    ids: list[int]
    word_ids: list[int]
    offsets: list[tuple[int, int]]


class NamedTokens:
    """A tokenizer that puts, for each of `names`, the numbers that it stands for; upper case is lower case.

    All vectors of a name are one word, so that a window does not end among them.
    """

    def __init__(self, tokenizer: Any, names: Mapping[str, Sequence[int]]):
        self.tokenizer = tokenizer
        self.names = {name.lower(): list(ids) for name, ids in names.items()}

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoding:
        """The tokens of a text without marks at its ends, the words that they belong to, and their places."""
        answer, words = Encoding([], [], []), 0
        for start, part in _split(text, self.names):
            if (ids := self.names.get(part.lower())) is not None:
                answer.ids.extend(ids)
                answer.word_ids.extend([words] * len(ids))
                answer.offsets.extend([(start, start + len(part))] * len(ids))
                words += 1
            else:
                found = self.tokenizer.encode(part, add_special_tokens=False)
                answer.ids.extend(found.ids)
                answer.word_ids.extend(words + word for word in found.word_ids)
                answer.offsets.extend((start + a, start + b) for a, b in found.offsets)
                words = answer.word_ids[-1] + 1 if answer.word_ids else 0
        return answer


def mentioned(text: str, names: Sequence[str]) -> list[str]:
    """Those of the names that stand in a text as words of their own, in the order in which they do."""
    known = {name.lower(): name for name in names}
    parts = (known.get(part.lower()) for _, part in _split(text, known))
    return list(dict.fromkeys(name for name in parts if name is not None))


def _split(text: str, names: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The text in order, its names apart from what stands between them, and where each part begins."""
    if not names:
        yield 0, text
        return
    longest_first = sorted(names, key=len, reverse=True)
    any_name = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    end = 0
    for found in any_name.finditer(text):
        if found.start() > end:
            yield end, text[end : found.start()]
        yield found.start(), found[0]
        end = found.end()
    if end < len(text) or not text:
        yield end, text[end:]
