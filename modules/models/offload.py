"""A model that is larger than a GPU's memory waits in the computer's, and comes over part by part, here."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from modules.models import memory, parts
from modules.models.catalog import Card
from modules.models.devices import parameters

TOGETHER, BY_PARTS, BY_LAYERS = "together", "by parts", "by layers"
SPARE = 1_000_000_000  # bytes to work with, where the card does not say
LARGEST = 0.85  # of the weights that a model's largest network has, at most as a rule
KINDS = ("cuda", "xpu")
TOLD = {
    BY_PARTS: "its parts come into GPU memory one after another",
    BY_LAYERS: "its layers come into GPU memory one after another, which is slow",
}


def plan(card: Card, device: torch.device, dtype: torch.dtype) -> str:
    """How a model is to be held: all of it on the device, part by part, or layer by layer."""
    there = memory.free(str(device)) if device.type in KINDS else None
    if there is None:
        return TOGETHER
    weights = parameters(card) * dtype.itemsize
    whole = card.memory.get(str(dtype).removeprefix("torch."), 0) * 1e9
    return choose(weights, max(whole - weights, SPARE), there)


def choose(weights: float, working: float, there: float) -> str:
    """The quickest way that fits: `weights` and what is needed to work, against the bytes that are there."""
    if weights + working <= there:
        return TOGETHER
    return BY_PARTS if LARGEST * weights + working <= there else BY_LAYERS


def offloaded(model: Any, device: torch.device, way: str) -> Any:
    """A model that was loaded on the CPU, computing on the device; as it is where all fits together.

    Each part moves over when it is called, and the one before it moves back (accelerate's hooks; diffusers'
    autoencoders call them in decode and encode). Layer by layer is only the largest part's fate.
    """
    if way == TOGETHER:
        return model
    from accelerate import cpu_offload, cpu_offload_with_hook

    networks = sorted(parts.networks(model).items(), key=lambda item: ORDER.get(item[0], 0))
    largest = max(networks, key=lambda item: sum(value.numel() for value in item[1].parameters()))[0]
    before = None
    for name, network in networks:
        _fill_buffers(network)
        if way == BY_LAYERS and name == largest:
            cpu_offload(network, device, offload_buffers=True)
        else:
            _, before = cpu_offload_with_hook(network, device, before)
    return dataclasses.replace(model, device=device)


def _fill_buffers(network: torch.nn.Module) -> None:
    """Zeros for buffers that no file held (position ids, which we pass ourselves): else nothing can move."""
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.zeros_like(buffer, device="cpu")


ORDER = {"unet": 1, "pipe.transformer": 1, "autoencoder": 2, "pipe.vae": 2}  # text comes before


def told(model: Any) -> str:
    """How a model is held, in words; nothing of one that is on its device as a whole."""
    networks = list(parts.networks(model).values())
    if any(value.is_meta for network in networks for value in network.parameters()):
        return TOLD[BY_LAYERS]
    return TOLD[BY_PARTS] if any(hasattr(network, "_hf_hook") for network in networks) else ""
