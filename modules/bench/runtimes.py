"""Our loop races here with a U-Net of SD 1.5's size: beside the stock pipeline, and on OpenVINO."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from modules.conditions.text import Encoded
from modules.diffusion.noise import NoiseSchedule
from modules.engine.generation import generate
from modules.models.catalog import ModelCard
from modules.models.latent import LatentModel
from modules.tasks import TextToImage

# Stable Diffusion 1.5's own numbers; 860 million weights, and 84 million of the autoencoder.
UNET: Mapping[str, Any] = {
    "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
}  # fmt: skip
AUTOENCODER: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "steps_offset": 1,
}  # fmt: skip
TOKENS = 77
SMALL = 64
"""Pixels a side of a first picture by our loop: what happens once in a process is nobody's share."""
MISSING = "OpenVINO is not installed (pip install openvino), so it was not raced."


def race(
    stock: Callable[[LatentModel, TextToImage], Callable[[], Any]],
    size: int = 512,
    steps: int = 4,
    unet: Mapping[str, Any] = UNET,
    autoencoder: Mapping[str, Any] = AUTOENCODER,
) -> dict[str, Any]:
    """Seconds of one run of each with random weights in float32, and their ratios to ours.

    `stock` makes the function that paints with diffusers' own pipeline. At 512 pixels three copies of 3.4 GB
    of weights are held at most, while OpenVINO compiles; torch's own are let go before the race goes on.
    """
    with TemporaryDirectory() as folder:
        (Path(folder) / "scheduler").mkdir()
        (Path(folder) / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
        model = built(Path(folder), unet, autoencoder)
        task = TextToImage(
            prompt="a red apple", steps=steps, seed=0, width=size, height=size, model=model.card.id
        )
        seconds: dict[str, float] = {}
        pictures: dict[str, Any] = {}

        def timed(name: str, paint: Callable[[], Any]) -> None:
            begun = time.perf_counter()
            pictures[name] = paint()
            seconds[name] = time.perf_counter() - begun

        small = min(size, SMALL)
        ours(model, dataclasses.replace(task, steps=1, width=small, height=small))  # see `SMALL`
        timed("ours", lambda: ours(model, task))
        timed("stock", stock(model, task))
        compiled, told = on_openvino(model, size // model.factor, seconds)
        if compiled is not None:
            model = dataclasses.replace(model, unet=compiled)
            gc.collect()
            called(model, task)
            timed("openvino", lambda: ours(model, task))
    runs = [name for name in ("ours", "stock", "openvino") if name in seconds]
    return {
        "size": size,
        "steps": steps,
        "parameters": model.unet.numbers if compiled is not None else numbers(model.unet),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "ratios": {name: round(seconds[name] / seconds["ours"], 3) for name in runs},
        "largest_pixel_difference": {name: apart(pictures["ours"], pictures[name]) for name in runs[1:]},
        "threads": torch.get_num_threads(),
        "told": told,
    }


def ours(model: LatentModel, task: TextToImage) -> Any:
    """The pictures of our loop."""
    *_, result = generate(model, task)
    return result.images  # type: ignore[union-attr]


def called(model: LatentModel, task: TextToImage) -> None:
    """One call of the network at a task's size: a compiled one makes ready for it at the first."""
    conditions = model.conditions(task)
    asked = [conditions.base, *(one for one, _ in conditions.weighted)]
    model.predict(torch.randn(len(asked), *model.latent_shape(task.width, task.height)), 500.0, asked)


def built(folder: Path, unet: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> LatentModel:
    """A model of these shapes with random weights, the same each time; its words are random too."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [UNet2DConditionModel(**unet), AutoencoderKL(**autoencoder)]
    for network in networks:
        network.eval().requires_grad_(False)
    width = networks[0].config["cross_attention_dim"]

    def words(prompts: Any) -> list[Encoded]:
        drawn = [torch.Generator().manual_seed(len(prompt)) for prompt in prompts]
        return [Encoded(torch.randn(1, TOKENS, width, generator=one)) for one in drawn]

    card = ModelCard(id="random", title="Random weights", family="stable-diffusion", folder=folder)
    return LatentModel(
        card=card, unet=networks[0], autoencoder=networks[1], text=words, classes=None,
        noise_schedule=NoiseSchedule.from_config(card.scheduler_config()),
        factor=2 ** (len(networks[1].config["block_out_channels"]) - 1), hash="random",
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip


class Compiled:
    """A U-Net that OpenVINO computes, for two prompts at once at one size, with the face of torch's."""

    dtype = torch.float32

    def __init__(self, compiled: Any, config: Any, count: int):
        self.compiled, self.config, self.numbers = compiled, config, count

    def __call__(self, x: Any, t: Any, encoder_hidden_states: Any, **_: Any) -> tuple[torch.Tensor]:
        answer = self.compiled([x.numpy(), t.reshape(1).float().numpy(), encoder_hidden_states.numpy()])[0]
        return (torch.from_numpy(np.array(answer)),)


class Bare(torch.nn.Module):
    """A U-Net that takes and gives plain tensors, as a converter wants it."""

    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet

    def forward(self, x: torch.Tensor, t: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The prediction for latents at a timestep under token states."""
        return self.unet(x, t, states, return_dict=False)[0]


def on_openvino(model: LatentModel, side: int, seconds: dict[str, float]) -> tuple[Compiled | None, str]:
    """The model's U-Net in OpenVINO, static in every shape, and what there is to say; None without it."""
    try:
        import openvino as ov
    except ImportError:
        return None, MISSING
    begun = time.perf_counter()
    unet, width = model.unet, model.unet.config.cross_attention_dim
    latents, states = torch.randn(2, unet.config.in_channels, side, side), torch.randn(2, TOKENS, width)
    given = latents, torch.tensor([500.0]), states
    with torch.no_grad():
        converted = ov.convert_model(Bare(unet), example_input=given)
    converted.reshape({port: list(value.shape) for port, value in zip(converted.inputs, given)})
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.compile_model(converted, "CPU", hints)
    config = SimpleNamespace(**dict(unet.config))
    seconds["openvino conversion"] = time.perf_counter() - begun
    return Compiled(compiled, config, numbers(unet)), f"OpenVINO {ov.__version__}."


def numbers(network: Any) -> int:
    """How many numbers the weights of a network are."""
    return sum(value.numel() for value in network.parameters())


def apart(one: Any, other: Any) -> int:
    """The largest difference of any channel of any pixel."""
    return max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in zip(one, other))


def line(record: Mapping[str, Any]) -> str:
    """The race in a few lines."""
    told = f"{record['parameters'] / 1e6:.0f} million weights, {record['size']} x {record['size']}, "
    told += f"{record['steps']} steps, {record['threads']} threads, one run each:"
    seconds = record["seconds"]
    runs = [f"  {name:>10} {seconds[name]:9.2f} s   ratio {r:.3f}" for name, r in record["ratios"].items()]
    return "\n".join([told, *runs, record["told"]])
