"""A BERT encoder in plain torch lives here: transformers takes longer to import than Pocket to paint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from modules.models.files import LoadError

NEEDED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
KNOWN = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}


class Bert(nn.Module):
    """Token ids to token states (Devlin et al. 2018); equal to transformers' BertModel without its pooler.

    The parameters have transformers' names, so that its files fit. LoadError for a configuration that lacks a
    size, or asks for what is not here: decoders, relative positions, other activations.
    """

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        if missing := [name for name in NEEDED if name not in config]:
            raise LoadError(f"The text encoder's config.json lacks {', '.join(missing)}.")
        for name, only in KNOWN.items():
            if config.get(name, only) != only:
                raise LoadError(f"The text encoder's {name} is {config[name]!r}; only {only!r} can be used.")
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))}
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.LayerNorm.weight.device

    def get_input_embeddings(self) -> nn.Embedding:
        """The table from ids to vectors, under the name that transformers' networks have for it."""
        return self.embeddings.word_embeddings

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """States (B, length, width) of `ids` (B, length); where `mask` (B, length) is false none looks."""
        states = self.embeddings(ids)
        seen = mask.bool()[:, None, None].expand(-1, 1, ids.shape[1], -1)
        for layer in self.encoder["layer"]:  # pyright: ignore[reportGeneralTypeIssues]
            states = layer(states, seen)
        return states


class Embeddings(nn.Module):
    """What a token is, plus where it stands."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config.get("type_vocab_size", 2), width)
        self.LayerNorm = _norm(config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """States (B, length, width); all tokens are of the first type, as in one sentence."""
        kind = self.token_type_embeddings.weight[0]
        places = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + kind + places)


class Layer(nn.Module):
    """Attention, then two linear layers, each added to what came in and normalised afterwards."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.heads = config["num_attention_heads"]
        look = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": look, "output": _added(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _added(inner, config)

    def forward(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """States to states, (B, length, width)."""
        look: Any = self.attention["self"]
        query, key, value = (
            look[name](states).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        states = _normalised(self.attention["output"], found.transpose(1, 2).flatten(2), states)
        return _normalised(self.output, F.gelu(self.intermediate["dense"](states)), states)


def _added(width: int, config: Mapping[str, Any]) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width, config["hidden_size"]), "LayerNorm": _norm(config)})


def _normalised(output: Any, found: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return output["LayerNorm"](output["dense"](found) + states)


def _norm(config: Mapping[str, Any]) -> nn.LayerNorm:
    return nn.LayerNorm(config["hidden_size"], eps=config.get("layer_norm_eps", 1e-12))
