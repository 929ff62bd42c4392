"""A model that asks for less memory at once lives here: conditions one after another, pictures in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from modules.models.pipelines import Model

TILE, SMALL_TILE = 512, 256  # pixels a side; the small one for pictures that fit into the large one
OVERLAP = 64  # pixels over which one tile is led over to the next


class Sparing:
    """A model's face over a model, for nearly the same pictures in less memory and more time.

    Tiles differ from the whole where an autoencoder looks further than their overlap: slightly, in colour.
    """

    def __init__(self, model: Model):
        self.whole = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def predict(
        self, x: torch.Tensor, t: float, conditions: Sequence[Any], controls: Sequence[Any] = ()
    ) -> torch.Tensor:
        """As the model's own, asked once for every condition."""
        parts = zip(x.chunk(len(conditions)), conditions, strict=True)
        return torch.cat([self.whole.predict(part, t, [condition], controls) for part, condition in parts])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """As the model's own, picture by picture and tile by tile."""
        factor = self.whole.factor
        large = max(latents.shape[-2:]) * factor > TILE
        tile = max(1, (TILE if large else SMALL_TILE) // factor)
        return torch.cat([tiled(self.whole.decode, one, tile, OVERLAP // factor) for one in latents.split(1)])


def tiled(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, tile: int, overlap: int
) -> torch.Tensor:
    """What `decode` makes of latents (B, C, H, W), tile by tile, joined on the CPU.

    Tiles of `tile` latents a side share at least `overlap` with their neighbours, where the weight of one
    falls as the other's rises. A picture that is one tile is decoded whole.
    """
    rows, columns = (starts(length, tile, overlap) for length in latents.shape[-2:])
    joined = weights = torch.empty(0)
    for top in rows:
        for left in columns:
            part = decode(latents[..., top : top + tile, left : left + tile]).float().cpu()
            factor = part.shape[-1] // min(tile, latents.shape[-1])
            if not len(weights):
                size = tuple(side * factor for side in latents.shape[-2:])
                joined, weights = torch.zeros(*part.shape[:2], *size), torch.zeros(size)
            share = ramp(part.shape[-2], overlap * factor)[:, None] * ramp(part.shape[-1], overlap * factor)
            down, across = (slice(a * factor, a * factor + b) for a, b in zip((top, left), part.shape[-2:]))
            joined[..., down, across] += part * share
            weights[down, across] += share
    return joined / weights


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover `length`, the last flush with its end."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def ramp(length: int, overlap: int) -> torch.Tensor:
    """Weights that rise from near 0 at either end to 1, over `overlap` pixels."""
    from_edge = torch.minimum(torch.arange(length), torch.arange(length).flip(0)) + 1.0
    return (from_edge / (overlap + 1)).clamp(max=1)
