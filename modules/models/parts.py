"""Which networks a model in memory is made of is told here, whatever its family."""

from __future__ import annotations

from typing import Any


def networks(model: Any) -> dict[str, Any]:
    """The torch modules that every picture needs, by where they are found: "unet", "text.first", ...

    A model's own, those of its text encoders, and those of a stock pipeline; a ControlNet, which is loaded
    when it is asked for, is not among them.
    """
    found: dict[str, Any] = {}
    for name in ("unet", "autoencoder", "text", "pipe"):
        _collect(getattr(model, name, None), name, found)
    return found


def weight_bytes(model: Any) -> int:
    """Bytes of the weights of a model."""
    return sum(
        value.numel() * value.element_size()
        for network in networks(model).values()
        for value in network.parameters()
    )


def _collect(part: Any, name: str, found: dict[str, Any]) -> None:
    if hasattr(part, "parameters") and hasattr(part, "buffers"):
        if all(part is not other for other in found.values()):
            found[name] = part
        return
    inside = getattr(part, "components", None) if name == "pipe" else getattr(part, "__dict__", None)
    if name in ("text", "pipe") or name.startswith("text."):
        for each, value in (inside or {}).items():
            if hasattr(value, "parameters") or type(value).__module__.startswith("modules."):
                _collect(value, f"{name}.{each}", found)
