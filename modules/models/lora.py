"""Low-rank changes to a network's layers: read from a file, checked against it, worn for a while, taken off.

A worn LoRA is computed beside its layer and added to what the layer says, so that no weight is ever touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from modules.models.files import LoadError
from modules.models.lora_names import FOREIGN, NETWORKS, layers_of, other_kind, place, split
from modules.models.lycoris import FACTORS, Form, form_of, rank_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """What a file says of one layer: `scale` times up @ down (LoRA, Hu et al. 2021), or a whole difference,
    which a LyCORIS file has as `factors` and a `form` that makes it of them.

    `down` of a convolution is one itself, and with `middle` they are three in a row. `magnitude` is DoRA's:
    the length of each row (or column) of the changed weight (Liu et al. 2024, eq. 5). `bias` is added as is.
    """

    layer: str
    up: torch.Tensor | None = None
    down: torch.Tensor | None = None
    middle: torch.Tensor | None = None
    scale: float = 1.0
    magnitude: torch.Tensor | None = None
    difference: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    form: Form | None = None
    factors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def fits(self, layer: Any) -> bool:
        """Whether it is a change of a layer of this shape."""
        shape, (out, into, *kernel) = tuple(layer.weight.shape), layer.weight.shape
        if self.difference is not None and tuple(self.difference.shape) != shape:
            return False
        if self.bias is not None and self.bias.numel() != out:
            return False
        if self.magnitude is not None and self.magnitude.numel() not in (out, into):
            return False
        if self.form is not None:
            return self._makes(layer.weight)
        if self.up is None or self.down is None:
            return self.up is self.down
        if getattr(layer, "groups", 1) != 1 or self.up.flatten(1).shape[0] != out:
            return False
        if self.middle is not None:
            ranks, mine = (self.up.flatten(1).shape[1], self.down.shape[0]), tuple(self.middle.shape)
            return mine == (*ranks, *kernel) and self.down.numel() == ranks[1] * into
        rank = self.up.flatten(1).shape[1]
        held = tuple(self.down.shape)
        return held[:2] == (rank, into) and self.down[0, 0].numel() == torch.Size(kernel).numel()

    def _makes(self, weight: torch.Tensor) -> bool:
        """Whether the factors make as many rows and numbers as a weight has, told without memory."""
        assert self.form is not None
        try:
            made = self.form({name: factor.to("meta") for name, factor in self.factors.items()})
        except RuntimeError:
            return False
        return len(made) == len(weight) and made.numel() == weight.numel()

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """What is added to a layer's weight, of its shape, in float32."""
        if self.difference is not None:
            return self.difference.to(weight.device, torch.float32)
        low = self.scale * self._low(weight.device).reshape(weight.shape)
        if self.magnitude is None:
            return low
        base = weight.to(torch.float32)
        changed, magnitude = base + low, self.magnitude.to(weight.device, torch.float32)
        if magnitude.ndim == 1 or len(magnitude) == len(weight):  # a length a row; some trainers: a column
            lengths = changed.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        else:
            lengths = changed.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.ndim - 2))
        return magnitude.reshape(lengths.shape) * changed / lengths - base

    def _low(self, device: torch.device) -> torch.Tensor:
        """What the small matrices make, unscaled, in float32."""
        if self.form is not None:
            return self.form(
                {name: factor.to(device, torch.float32) for name, factor in self.factors.items()}
            )
        assert self.up is not None
        assert self.down is not None
        up, down = (part.to(device, torch.float32).flatten(1) for part in (self.up, self.down))
        if self.middle is None:
            return up @ down
        return torch.einsum("or,rskl,si->oikl", up, self.middle.to(device, torch.float32), down)


@dataclass(frozen=True, eq=False)
class Lora:
    """A file's changes by network ("unet", "text_encoder", "text_encoder_2") and by flat layer name."""

    name: str
    changes: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)


def from_tensors(name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Lora:
    """The LoRA in a file's tensors; LoadError if they are another kind of adapter, or none."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if (kind := other_kind(key)) is not None:
            raise LoadError(
                f"{name} is {kind}, which this studio cannot use; it takes LoRA, LoCon, DoRA, LoHa and LoKr."
            )
        if (found := split(key)) is None:
            raise LoadError(f"{name} is no LoRA that this studio knows: it holds {key[:80]}.")
        parts.setdefault(found[0], {})[found[1]] = tensor
    if foreign := next((layer for layer in parts if layer.startswith(FOREIGN)), None):
        raise LoadError(
            f"{name} is a LoRA for a transformer (SD3, FLUX or a relative; it has {foreign[:60]}), "
            "and only U-Nets can wear one here."
        )
    alphas = _peft_alphas(metadata)
    changes: dict[str, dict[str, Change]] = {}
    for layer, held in parts.items():
        network, flat = place(layer)
        changes.setdefault(network, {})[flat] = _change(name, layer, held, alphas)
    if not changes:
        raise LoadError(f"{name} holds no LoRA: the file is empty.")
    return Lora(name, changes)


def put_on(
    lora: Lora, networks: Mapping[str, Any], weights: Mapping[str, float], title: str, stack: ExitStack
) -> None:
    """Let the networks answer as changed by the LoRA until `stack` closes; no weight is touched.

    `weights` say how much, by network; 0 leaves it out. LoadError, before anything is changed, if a layer is
    missing or of another shape; `title` is the model's in that sentence.
    """
    pairs = [
        (layer, change, weights[network])
        for network, changes in lora.changes.items()
        for layer, change in _paired(lora, network, changes, networks, title)
    ]
    for layer, change, weight in pairs:
        if weight != 0:
            stack.callback(layer.register_forward_hook(_hook(change, layer, weight)).remove)


def _paired(
    lora: Lora, network: str, changes: Mapping[str, Change], networks: Mapping[str, Any], title: str
) -> list[tuple[Any, Change]]:
    layers = layers_of(networks[network], network) if network in networks else {}
    for flat, change in changes.items():
        if flat not in layers:
            raise LoadError(_misfit(lora, title, f"{title} has no layer {change.layer[:80]}"))
        if not change.fits(layers[flat]):
            shape = " x ".join(map(str, layers[flat].weight.shape))
            raise LoadError(
                _misfit(lora, title, f"layer {change.layer[:80]} is {shape} there and another size here")
            )
    return [(layers[flat], change) for flat, change in changes.items()]


def _misfit(lora: Lora, title: str, why: str) -> str:
    return (
        f"The LoRA {lora.name} does not fit {title}: {why}. "
        "A LoRA works only with models of the family that it was trained on."
    )


def _hook(change: Change, layer: Any, weight: float) -> Callable[..., torch.Tensor]:
    """What runs after a layer and adds the change; small matrices are multiplied as they are."""
    like, linear = layer.weight, isinstance(layer, nn.Linear)
    chain, wide = _chain(change, like)
    if chain:
        chain[-1] = chain[-1].float() * weight
    if linear:
        chain = [matrix.flatten(1) for matrix in chain]
    chain = [matrix.to(like) for matrix in chain]
    bias = None
    if change.bias is not None:
        bias = (weight * change.bias.float()).to(like).reshape(-1, *[1] * (like.ndim - 2))

    def add(_: Any, given: tuple[torch.Tensor, ...], said: torch.Tensor) -> torch.Tensor:
        x = given[0]
        for i, matrix in enumerate(chain):  # `to` moves nothing unless the layer was moved meanwhile
            if linear:
                x = F.linear(x, matrix.to(x))
            elif i == wide:
                x = F.conv2d(x, matrix.to(x), None, layer.stride, layer.padding, layer.dilation)
            else:
                x = F.conv2d(x, matrix.to(x))
        said = said + x if chain else said
        return said if bias is None else said + bias.to(said)

    return add


def _chain(change: Change, weight: torch.Tensor) -> tuple[list[torch.Tensor], int]:
    """The matrices that a layer's input passes one after another, and which of them strides and pads."""
    if change.magnitude is not None or change.form is not None:
        return [change.delta(weight)], 0
    if change.up is None or change.down is None:
        return ([] if change.difference is None else [change.difference]), 0
    pointwise = change.up.flatten(1)[..., None, None], change.down.flatten(1)[..., None, None]
    up, down = pointwise[0] * change.scale, change.down
    if change.middle is not None:
        return [pointwise[1], change.middle, up], 1
    return [down if down.ndim == 4 else pointwise[1], up], 0


def _change(
    name: str, layer: str, held: Mapping[str, torch.Tensor], alphas: list[tuple[str, float]]
) -> Change:
    held = dict(held)
    alpha = held.pop("alpha", None)
    magnitude, bias = held.get("magnitude"), held.get("bias")
    if (form := form_of(held)) is not None:
        factors = {part: value for part, value in held.items() if part in FACTORS}
        rank = rank_of(factors)
        scale = 1.0 if alpha is None or rank is None else float(alpha) / rank
        return Change(layer=layer, scale=scale, form=form, factors=factors, magnitude=magnitude, bias=bias)
    up, down, middle = (held.get(part) for part in ("up", "down", "middle"))
    ranked = up is not None and down is not None and "difference" not in held
    plain = bool(held) and {"difference", "bias"}.issuperset(held)
    if not (ranked or plain):
        raise LoadError(f"{name} is damaged: its layer {layer[:80]} is not whole. Download it again.")
    if down is None:
        return Change(
            layer=layer, difference=held.get("difference"), bias=held.get("bias")
        )  # alpha means nothing to a difference
    strength = float(alpha) if alpha is not None else _told(layer, alphas)
    scale = 1.0 if strength is None else strength / (len(down) if middle is None else len(middle))
    return Change(layer=layer, up=up, down=down, middle=middle, scale=scale, magnitude=magnitude, bias=bias)


def _told(layer: str, alphas: list[tuple[str, float]]) -> float | None:
    return next((alpha for pattern, alpha in alphas if re.fullmatch(pattern, layer)), None)


def _peft_alphas(metadata: Mapping[str, str]) -> list[tuple[str, float]]:
    """Patterns of layer names and their alphas, the most special first, as diffusers notes peft's settings.

    LoadError if those settings scale the ranks in another way.
    """
    try:
        noted = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return []
    alphas: list[tuple[str, float]] = []
    for network in sorted({*NETWORKS.values()}):
        if noted.get(f"{network}.use_rslora"):
            raise LoadError("This LoRA was trained with rank-stabilised scaling, which is not read here.")
        special = noted.get(f"{network}.alpha_pattern") or {}
        inside = re.escape(network)
        alphas += [(rf"{inside}\.(?:.*\.)?{re.escape(layer)}", float(a)) for layer, a in special.items()]
        if (alpha := noted.get(f"{network}.lora_alpha")) is not None:
            alphas.append((rf"{inside}\..*", float(alpha)))
    return alphas


def read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the notes of a safetensors file; LoadError if it is damaged or missing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError as error:
        raise LoadError(f"{path.name} is not there any more.") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise LoadError(f"{path.name} is damaged ({error}). Download it again.") from error
