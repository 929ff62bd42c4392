"""Words become token states here, long prompts whole: cut into windows, encoded one by one, joined again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer

MOST_WINDOWS = 8
"""A prompt longer than so many windows is cut, and the picture's record says how many words were lost."""


@dataclass(frozen=True)
class Encoded:
    """The token states of one prompt, (1, windows * tokens, width), and the words that did not fit."""

    states: torch.Tensor
    words_cut: int = 0


class TextEncoder(Protocol):
    """What LatentModel asks of any text encoder."""

    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        """One Encoded a prompt, all with the same number of windows."""
        ...


def windows_of(prompt: str, tokenizer: Tokenizer, room: int) -> tuple[list[list[int]], int]:
    """A prompt's token ids in windows of at most `room`, broken between words, and the count of words cut."""
    encoding = tokenizer.encode(prompt, add_special_tokens=False)
    windows: list[list[int]] = [[]]
    word: list[int] = []
    for i, token in enumerate(encoding.ids):
        word.append(token)
        ends = i + 1 == len(encoding.ids) or encoding.word_ids[i + 1] != encoding.word_ids[i]
        if not ends and len(word) < room:
            continue
        if len(windows[-1]) + len(word) > room:
            if len(windows) == MOST_WINDOWS:
                start = encoding.offsets[i + 1 - len(word)][0]
                return windows, max(1, len(prompt[start:].split()))
            windows.append([])
        windows[-1] += word
        word = []
    return windows, 0


def padded(windows: Sequence[list[int]], count: int) -> list[list[int]]:
    """The windows, and empty ones after them until there are `count`."""
    return [*windows, *([] for _ in range(count - len(windows)))]


class BertText:
    """Prompts through a BERT: each window is [CLS] words [SEP], padded to `length` and masked.

    A prompt of one window gives what transformers gives for padding="max_length".
    """

    def __init__(self, network: Any, tokenizer: Tokenizer, length: int = 32):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.network, self.tokenizer, self.length = network, tokenizer, length
        self.begin, self.end, self.pad = (_id_of(tokenizer, name) for name in ("[CLS]", "[SEP]", "[PAD]"))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        found = [windows_of(prompt, self.tokenizer, self.length - 2) for prompt in prompts]
        count = max(len(windows) for windows, _ in found)
        rows = [self._row(window) for windows, _ in found for window in padded(windows, count)]
        device = self.network.device
        ids = torch.tensor([row for row, _ in rows], device=device)
        mask = torch.tensor([kept for _, kept in rows], device=device)
        positions = torch.arange(self.length, device=device)[None]
        states = self.network(
            input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids), position_ids=positions
        ).last_hidden_state
        joined = states.reshape(len(prompts), count * self.length, -1)
        return [Encoded(joined[i : i + 1], cut) for i, (_, cut) in enumerate(found)]

    def _row(self, window: list[int]) -> tuple[list[int], list[int]]:
        used = [self.begin, *window, self.end]
        spare = self.length - len(used)
        return used + [self.pad] * spare, [1] * len(used) + [0] * spare


class ClipText:
    """Prompts through a CLIP text encoder: each window is begin, words, end, padded to 77, unmasked.

    A prompt of one window gives what StableDiffusionPipeline gives; two and more are joined, as A1111 does.
    """

    def __init__(self, network: Any, tokenizer: Tokenizer, begin: int, end: int, pad: int, length: int = 77):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.network, self.tokenizer, self.length = network, tokenizer, length
        self.begin, self.end, self.pad = begin, end, pad

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        found = [windows_of(prompt, self.tokenizer, self.length - 2) for prompt in prompts]
        count = max(len(windows) for windows, _ in found)
        rows = []
        for windows, _ in found:
            for window in padded(windows, count):
                used = [self.begin, *window, self.end]
                rows.append(used + [self.pad] * (self.length - len(used)))
        ids = torch.tensor(rows, device=self.network.device)
        positions = torch.arange(self.length, device=ids.device)[None]
        states = self.network(ids, position_ids=positions).last_hidden_state
        joined = states.reshape(len(prompts), count * self.length, -1)
        return [Encoded(joined[i : i + 1], cut) for i, (_, cut) in enumerate(found)]


def _id_of(tokenizer: Tokenizer, name: str) -> int:
    if (found := tokenizer.token_to_id(name)) is None:
        raise ValueError(f"The tokenizer has no {name} token.")
    return found
