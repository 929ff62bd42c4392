"""Textual inversion: vectors that were learned for a name take the place of its tokens in a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from modules.conditions.named import NamedTokens
from modules.models.files import LoadError
from modules.models.lora import read_file
from modules.models.wardrobe import SDXL_VECTORS


def teach(encoders: Sequence[Any], files: Mapping[str, Path], title: str, stack: ExitStack) -> None:
    """Let text encoders know the names of these files until `stack` closes; no weight is touched.

    Each encoder has a `network` and a `tokenizer` (Gal et al. 2022). LoadError, before anything is changed,
    if vectors are of another width than the encoders' own; `title` is the model's in that sentence.
    """
    if not files:
        return
    widths = [encoder.network.get_input_embeddings().weight.shape[1] for encoder in encoders]
    rows = {name: _vectors(name, path, widths, title) for name, path in files.items()}
    numbers, free = {}, -1
    for name, (first, *_) in rows.items():
        numbers[name] = range(free, free - len(first), -1)
        free -= len(first)
    for i, encoder in enumerate(encoders):
        learned = _Learned(torch.cat([each[i] for each in rows.values()]))
        embedding = encoder.network.get_input_embeddings()
        stack.callback(embedding.register_forward_pre_hook(learned.before).remove)
        stack.callback(embedding.register_forward_hook(learned.after).remove)
        stack.callback(setattr, encoder, "tokenizer", encoder.tokenizer)
        encoder.tokenizer = NamedTokens(encoder.tokenizer, numbers)


class _Learned:
    """Hooks around a token embedding that answer for the numbers below 0: -1 is the first row.

    Below 0, because CLIP looks for the largest number to find the end of a text.
    """

    def __init__(self, rows: torch.Tensor):
        self.rows, self.asked = rows, torch.empty(0)

    def before(self, _: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        self.asked = given[0]
        return (self.asked.clamp(min=0), *given[1:])

    def after(self, _: Any, given: tuple[torch.Tensor, ...], said: torch.Tensor) -> torch.Tensor:
        mine = self.rows.to(said)[(-1 - self.asked).clamp(min=0)]
        return torch.where((self.asked < 0)[..., None], mine, said)


def _vectors(name: str, path: Path, widths: Sequence[int], title: str) -> list[torch.Tensor]:
    """A file's vectors for each encoder, (count, width)."""
    tensors, _ = read_file(path)
    keys = SDXL_VECTORS if len(tensors) > 1 else tuple(tensors)
    found = [tensors[key].reshape(-1, tensors[key].shape[-1]).float() for key in keys]
    if [vectors.shape[1] for vectors in found] != [*widths] or len({len(vectors) for vectors in found}) != 1:
        theirs, ours = (" and ".join(map(str, each)) for each in ([one.shape[1] for one in found], widths))
        raise LoadError(
            f"A prompt names the embedding {name}, whose vectors are {theirs} wide; {title} takes {ours}. "
            f"Take the word out, or choose a model of the family that {path.name} was made for."
        )
    return found
