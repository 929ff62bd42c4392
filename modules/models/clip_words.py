"""CLIP's vocabulary lives here: a folder's own, or the one that ships, which is every Stable Diffusion's."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

from modules.models.originals import CONFIGS

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


class Vocabulary(NamedTuple):
    """The number of every token, and the pairs that are joined to make them, in order."""

    ids: dict[str, int]
    merges: list[tuple[str, str]]


def vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary in a tokenizer's folder, or the one that ships where the folder has none."""
    if not has_own(folder):
        return _shipped()
    return Vocabulary(json.loads((folder / "vocab.json").read_text("utf-8")), _merges(folder / "merges.txt"))


def has_own(folder: Path) -> bool:
    """Whether a tokenizer's folder brings a vocabulary in CLIP's two files."""
    return (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()


def marks(folder: Path) -> dict[str, str]:
    """The begin, end and padding marks that a tokenizer's folder names; CLIP's own otherwise."""
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    usual = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    return {name: told[name] if isinstance(told.get(name), str) else mark for name, mark in usual.items()}


@functools.cache
def _shipped() -> Vocabulary:
    """Numbers follow from the merges: 256 bytes, the same at a word's end, every merge, and two marks."""
    merges = _merges(CONFIGS / "clip" / "merges.txt")
    letters = [*map(chr, _printable()), *(chr(256 + i) for i in range(256 - len(_printable())))]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), BEGIN, END]
    return Vocabulary({piece: i for i, piece in enumerate(pieces)}, merges)


def _printable() -> list[int]:
    """The bytes that stand for themselves, in GPT-2's order; all others stand as letters from 256 on."""
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def _merges(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text("utf-8").split("\n")
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    return [(first, second) for first, second in pairs]
