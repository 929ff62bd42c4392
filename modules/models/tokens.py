"""How many tokens a prompt takes is told here, from a model's tokenizer file alone: no weights are read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from modules.conditions.emphasis import parse, paused
from modules.conditions.named import NamedTokens
from modules.conditions.windows import BERT_TOKENS, CLIP_TOKENS, windows_of
from modules.models.catalog import ModelCard
from modules.models.clip_words import END, has_own, vocabulary

ROOM = {
    "pocket": BERT_TOKENS - 2,
    "stable-diffusion": CLIP_TOKENS - 2,
    "stable-diffusion-xl": CLIP_TOKENS - 2,
}
"""Tokens in one window of a family's text encoder, without the marks at its ends."""


class TokenCount(NamedTuple):
    """Tokens of a prompt, those that its windows have room for, how many windows, and the text left out."""

    used: int
    available: int
    windows: int
    left_out: str


def count_tokens(
    card: ModelCard, prompt: str, learned: Mapping[str, int] = MappingProxyType({})
) -> TokenCount | None:
    """How a prompt fits the model; None where that is not known. TaskError for a weight beyond limits.

    `learned`: names of embeddings, and how many tokens each takes.
    """
    room = ROOM.get(card.family)
    tokenizer = _tokenizer(card.part("tokenizer"), card.folder.is_file()) if room else None
    if room is None or tokenizer is None:
        return None
    parts = parse(prompt.strip())
    if card.family == "pocket":
        parts = [paused(parts)]  # as its encoder does
    named: Any = NamedTokens(tokenizer, {name: [-1] * count for name, count in learned.items()})
    windows, left_out = windows_of(parts, named if learned else tokenizer, room)
    return TokenCount(sum(map(len, windows)), room * len(windows), len(windows), left_out)


def _tokenizer(folder: Path, shipped: bool) -> Tokenizer | None:
    """The tokenizer in a folder; if it has none, CLIP's own where that is meant."""
    if (folder / "tokenizer.json").is_file():
        return _whole(folder / "tokenizer.json")
    if has_own(folder) or shipped:
        return _clip(folder)
    return None


@functools.lru_cache(maxsize=8)
def _whole(path: Path) -> Tokenizer:
    found = Tokenizer.from_file(str(path))
    found.no_truncation()
    found.no_padding()
    return found


@functools.lru_cache(maxsize=8)
def _clip(folder: Path) -> Tokenizer:
    """CLIP's tokenizer out of its two older files, as transformers would build it, without its import."""
    ids, merges = vocabulary(folder)
    found = Tokenizer(models.BPE(ids, merges, unk_token=END, end_of_word_suffix="</w>"))
    found.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return found
