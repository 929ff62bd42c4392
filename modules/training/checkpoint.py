"""Training state is written whole or not at all here, so that a killed run loses minutes, never the file."""

import os
from pathlib import Path
from typing import Any

import torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` next to `path`, flush it to the disk, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read what `save_state` wrote, or return None when there is nothing yet.

    Training state is our own file on our own disk; committed weights are safetensors only.
    """
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def save_run(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    **progress: int,
) -> None:
    """Write all that `resume_run` needs to go on, and `progress` beside it."""
    parts = {"network": network, "average": average, "optimizer": optimizer}
    save_state(path, {name: part.state_dict() for name, part in parts.items()} | progress)


def resume_run(
    path: Path, network: torch.nn.Module, average: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill a run's parts from the last checkpoint and return it; an empty dict when there is none."""
    state = load_state(path) or {}
    if state:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    return state


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the weights' moving average one step: average = decay * average + (1 - decay) * network."""
    ours = [p for p in average.parameters() if p.is_floating_point()]
    theirs = [p for p in network.parameters() if p.is_floating_point()]
    torch._foreach_lerp_(ours, theirs, 1 - decay)
