"""Networks that see are trained in the loop here, and shipped."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from modules.training.checkpoint import resume_run, save_run, update_average
from modules.training.denoiser import learning_rate
from modules.training.export import write_manifest

SAVED = 120  # seconds between two checkpoints
Network = TypeVar("Network", bound=torch.nn.Module)


def fit(
    network: Network,
    path: Path,
    steps: int,
    peak: float,
    loss: Callable[[np.random.Generator], torch.Tensor],
    seed: int = 0,
) -> Network:
    """Train a network until `steps`, going on from `path` where it exists; returns its averaged weights.

    `loss(rng)` is the network's on a batch that the generator decides: every step has its own, so that a
    resumed run draws what an uninterrupted one would.
    """
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.02, fused=True)
    first = resume_run(path, network, average, optimizer).get("step", 0)
    saved, running = time.time(), None
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, 0.5)
        missed = loss(np.random.default_rng((seed, step)))
        missed.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(average, network, min(0.995, (step + 1) / (step + 10)))
        running = missed.item() if running is None else 0.98 * running + 0.02 * missed.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {running:.4f}", flush=True)
        if time.time() - saved > SAVED or step + 1 == steps:
            save_run(path, network, average, optimizer, step=step + 1)
            saved = time.time()
    return average


def ship(network: torch.nn.Module, path: Path, name: str, facts: dict[str, Any]) -> None:
    """Write the weights to `path` in float16, with a manifest beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})
    write_manifest(path.parent, {"name": name, "licence": "Apache-2.0", "training": facts})
    print(json.dumps(facts))
