"""A config and weights become a network here: built without memory, filled, refused unless they fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from modules.models.files import LoadError, read_json, read_weights


class Undrawn(TorchFunctionMode):
    """While open, no random numbers are drawn: weights that are read need none.

    Without memory torch would work out what a draw gives, for which it imports its compiler: two seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The tensor as it is for `torch.nn.init`, all else as it would be."""
        named = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def diffusers_network(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """A diffusers model of a class, out of its folder; LoadError, in words, if that is missing or damaged."""
    config = config_of(folder)
    return filled(lambda: kind.from_config(config), read_weights(folder), folder, device, dtype)


def config_of(folder: Path) -> dict[str, Any]:
    """A diffusers network's configuration, without what its writer noted for itself."""
    found = read_json(folder, "config.json")
    return {key: value for key, value in found.items() if not key.startswith("_")}


def known_to(build: Callable[[], Any], weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that a network has a place for; a converter may leave others over."""
    with torch.device("meta"), Undrawn():
        names = build().state_dict()
    return {name: value for name, value in weights.items() if name in names}


def filled(
    build: Callable[[], Any],
    weights: dict[str, torch.Tensor],
    source: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """A network built without memory and given its weights; LoadError unless they fit exactly."""
    with torch.device("meta"), Undrawn():
        network = build()
    weights = {name: value.to(device, dtype) for name, value in weights.items()}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise LoadError(f"The weights in {source} do not fit its config.json: {why[:200]}") from error
    return network.eval().requires_grad_(False)


def without(weights: dict[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    """The weights whose names begin with none of these."""
    return {name: value for name, value in weights.items() if not name.startswith(prefixes)}


def autoencoder_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of the autoencoder beside a network of this one: decoders overflow in float16."""
    return torch.float32 if dtype == torch.float16 else dtype
