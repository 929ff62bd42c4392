"""Words become token states here, long prompts whole: cut into windows, encoded one by one, joined again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer

from modules.conditions.emphasis import parse, paused
from modules.conditions.windows import BERT_TOKENS, CLIP_TOKENS, Token, padded, windows_of


@dataclass(frozen=True)
class Encoded:
    """The token states of one prompt, (1, windows * tokens, width), and the words that did not fit.

    `pooled`: what its first window says as a whole, (1, width), where the encoder tells.
    """

    states: torch.Tensor
    words_cut: int = 0
    pooled: torch.Tensor | None = None


class TextEncoder(Protocol):
    """What LatentModel asks of any text encoder."""

    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        """One Encoded a prompt, all with the same number of windows."""
        ...


class BertText:
    """Prompts through a BERT: each window is [CLS] words [SEP], padded to `length` and masked.

    A prompt of one window gives what transformers gives for padding="max_length".
    """

    def __init__(self, network: Any, tokenizer: Tokenizer, length: int = BERT_TOKENS):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.network, self.tokenizer, self.length = network, tokenizer, length
        self.begin, self.end, self.pad = (_id_of(tokenizer, name) for name in ("[CLS]", "[SEP]", "[PAD]"))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        parts = [[paused(parse(prompt))] for prompt in prompts]  # what learned from one window has no BREAK
        found = [windows_of(part, self.tokenizer, self.length - 2) for part in parts]
        rows, weights = _rows(found, self.length)
        states = self._states(rows)
        if any(weight != 1 for row in weights for weight in row):
            states = from_nothing(states, self._states([[]]), torch.tensor(weights))
        return _joined(states, found)

    def _states(self, windows: Sequence[list[Token]]) -> torch.Tensor:
        rows = [[self.begin, *(token.id for token in window), self.end] for window in windows]
        device = self.network.device
        ids = torch.tensor([row + [self.pad] * (self.length - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (self.length - len(row)) for row in rows], device=device)
        return self.network(ids, mask)


class ClipText:
    """Prompts through a CLIP text encoder: each window is begin, words, end, padded to 77, unmasked.

    A prompt of one window gives what StableDiffusionPipeline gives; two and more are joined, as A1111 does.
    """

    def __init__(
        self, network: Any, tokenizer: Tokenizer, begin: int, end: int, pad: int, length: int = CLIP_TOKENS
    ):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.network, self.tokenizer, self.length = network, tokenizer, length
        self.begin, self.end, self.pad = begin, end, pad

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        found = [windows_of(parse(prompt), self.tokenizer, self.length - 2) for prompt in prompts]
        windows, weights = _rows(found, self.length)
        rows = [[self.begin, *(token.id for token in window), self.end] for window in windows]
        ids = torch.tensor([row + [self.pad] * (self.length - len(row)) for row in rows])
        positions = torch.arange(self.length, device=self.network.device)[None]
        states, pooled = self._read(ids.to(self.network.device), positions)
        if any(weight != 1 for row in weights for weight in row):
            states = mean_kept(states, torch.tensor(weights))
        return _joined(states, found, pooled)

    @property
    def width(self) -> int:
        """Numbers a token."""
        return self.network.config.hidden_size

    def _read(self, ids: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.network(ids, position_ids=positions).last_hidden_state, None


class PenultimateClip(ClipText):
    """Prompts as SDXL takes them: the states before the last layer, and the projected pool where there is."""

    def _read(self, ids: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        answer = self.network(ids, position_ids=positions, output_hidden_states=True)
        return answer.hidden_states[-2], getattr(answer, "text_embeds", None)


class TwoClips:
    """Prompts through SDXL's two encoders: the states side by side, and the second one's pool."""

    def __init__(self, first: PenultimateClip, second: PenultimateClip):
        self.first, self.second = first, second

    def __call__(self, prompts: Sequence[str]) -> list[Encoded]:
        return [
            Encoded(torch.cat([one.states, other.states], dim=-1), one.words_cut, other.pooled)
            for one, other in zip(self.first(prompts), self.second(prompts), strict=True)
        ]


def from_nothing(states: torch.Tensor, empty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """States (n, length, width) moved along the line from the empty prompt's (1, length, width) through them.

    Weight 0 leaves what stands there when nothing is said, 1 changes no bit. It is Pocket's way because both
    ends then mean something; scaling the states themselves painted nearly the same, but means nothing at 0.
    """
    moved = torch.lerp(empty.float(), states.float(), weights.to(states.device)[..., None]).to(states)
    return torch.where(weights.to(states.device)[..., None] == 1, states, moved)


def mean_kept(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """States (n, length, width) times their weights, each window scaled back to its mean: A1111's way.

    Where that mean is nothing beside the states (no trained CLIP is so) there is none to restore: the ratio
    of two roundings would scale by chance. Windows whose weights are all 1 keep every bit.
    """
    weights = weights.to(states.device)[..., None]
    weighted = states.float() * weights
    before, after = states.float().mean((1, 2), keepdim=True), weighted.mean((1, 2), keepdim=True)
    least = 1e-3 * states.float().square().mean((1, 2), keepdim=True).sqrt()
    there = (before.abs() > least) & (after.abs() > least)
    restored = torch.where(there, weighted * (before / after), weighted).to(states)
    return torch.where((weights == 1).all(1, keepdim=True), states, restored)


def _rows(
    found: Sequence[tuple[list[list[Token]], str]], length: int
) -> tuple[list[list[Token]], list[list[float]]]:
    """Every window of every prompt, as many a prompt as the longest has, and the weights along its length."""
    count = max(len(windows) for windows, _ in found)
    rows = [window for windows, _ in found for window in padded(windows, count)]
    weights = [[1.0, *(token.weight for token in row), *[1.0] * (length - 1 - len(row))] for row in rows]
    return rows, weights


def _joined(
    states: torch.Tensor,
    found: Sequence[tuple[list[list[Token]], str]],
    pooled: torch.Tensor | None = None,
) -> list[Encoded]:
    joined, count = states.reshape(len(found), -1, states.shape[-1]), len(states) // len(found)
    pools = [None] * len(found) if pooled is None else [*pooled[::count].split(1)]
    return [
        Encoded(joined[i : i + 1], max(1, len(left.split())) if left else 0, pools[i])
        for i, (_, left) in enumerate(found)
    ]


def _id_of(tokenizer: Tokenizer, name: str) -> int:
    if (found := tokenizer.token_to_id(name)) is None:
        raise ValueError(f"The tokenizer has no {name} token.")
    return found
