"""A layer's whole change made of a few small matrices, as LyCORIS files hold it: LoHa and LoKr."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Factors = Mapping[str, torch.Tensor]
Form = Callable[[Factors], torch.Tensor]

HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
FACTORS = (
    *HADAMARD, "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
)  # fmt: skip
"""How the tensors of a layer are named."""


def form_of(held: Factors) -> Form | None:
    """What makes a layer's change of its tensors; None unless all are there that it takes."""
    if all(name in held for name in HADAMARD):
        return hadamard
    wholes = (name in held or {f"{name}_a", f"{name}_b"} <= held.keys() for name in ("lokr_w1", "lokr_w2"))
    return kronecker if all(wholes) else None


def rank_of(held: Factors) -> int | None:
    """The rank by which a layer's alpha is divided; None where nothing in it has a rank, and alpha no say."""
    ranked = [held[name] for name in ("hada_w1_b", "lokr_w1_b", "lokr_w2_b") if name in held]
    return len(ranked[-1]) if ranked else None


def hadamard(held: Factors) -> torch.Tensor:
    """LoHa: two low-rank matrices, multiplied number by number (Hyeon-Woo et al. 2022, FedPara, eq. 1)."""
    one, other = (_product(held, f"hada_w{i}", held.get(f"hada_t{i}")) for i in (1, 2))
    return one * other


def kronecker(held: Factors) -> torch.Tensor:
    """LoKr: the Kronecker product of two matrices, each whole or low-rank (Yeh et al. 2024, LyCORIS)."""
    one, other = (_product(held, "lokr_w1"), _product(held, "lokr_w2", held.get("lokr_t2")))
    return torch.kron(one.reshape(*one.shape, *[1] * (other.ndim - one.ndim)), other.contiguous())


def _product(held: Factors, name: str, middle: torch.Tensor | None = None) -> torch.Tensor:
    """A matrix that is there whole, or as two of low rank, or with a convolution's kernel between these."""
    if name in held:
        return held[name]
    a, b = held[f"{name}_a"], held[f"{name}_b"]
    return a @ b if middle is None else torch.einsum("rskl,ro,si->oikl", middle, a, b)
