"""The noise that a model was trained on is read here from its card alone: no weights, and no torch."""

from __future__ import annotations

from modules.diffusion.flow import FlowSchedule, Noise
from modules.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule
from modules.models.catalog import ModelCard

FLOWS: dict[str, tuple[str, bool]] = {
    "sd3": ("by_size", True),
    "flux": ("by_size", False),
    "flux2": ("by_size_and_steps", False),
    "qwen-image": ("by_size", False),
    "z-image": ("by_size", False),
}
"""Families of rectified flows: how their steps shift with the picture's size, and whether they are spread
over the whole training grid, as each family's pipeline in diffusers has it."""


def noise_of(card: ModelCard) -> Noise:
    """The noise schedule of a card's model; call its `at(width, height)` for pictures of a size."""
    config = card.scheduler_config()
    if card.family in FLOWS:
        return FlowSchedule.from_config(config, *FLOWS[card.family])
    return NoiseSchedule.from_config(config) if config else STABLE_DIFFUSION
