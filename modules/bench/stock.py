"""diffusers' own StableDiffusionPipeline over the components of a model of ours, to race with."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from modules.engine.generation import noise
from modules.models.conditioning import Scene, with_class
from modules.models.latent import LatentModel
from modules.tasks import Task


class StockAutoencoder(torch.nn.Module):
    """Any autoencoder with the face that StableDiffusionPipeline expects of AutoencoderKL."""

    def __init__(self, model: LatentModel):
        super().__init__()
        self.inner = model.autoencoder
        depth = round(math.log2(model.factor)) + 1
        scaling = model.autoencoder.config.scaling_factor
        self.config = SimpleNamespace(block_out_channels=(0,) * depth, scaling_factor=scaling)
        self.dtype, self.device = model.autoencoder.dtype, model.device

    def decode(self, latents: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        """Latents to pictures, in a tuple."""
        return (self.inner.decode(latents.to(self.dtype)).sample,)


def stock_pipeline(model: LatentModel, task: Task) -> Callable[[], Any]:
    """A function that makes the task's pictures with StableDiffusionPipeline and the same networks.

    The texts are encoded outside, by ours, one after the other as the pipeline would, and passed as
    prompt_embeds. Networks with a guidance embedding (Pocket's waits for its student) get a zero one, or the
    pipeline would not guide at all. ValueError for a sampler or spacing other than DPM++ 2M, karras.
    """
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    class Stock(StableDiffusionPipeline):
        @property
        def do_classifier_free_guidance(self) -> bool:
            return self.guidance_scale > 1

        def get_guidance_scale_embedding(
            self, w: Any, embedding_dim: int = 512, dtype: Any = None
        ) -> torch.Tensor:
            return torch.zeros(1, embedding_dim)

    if (task.sampler, task.schedule) != ("DPM++ 2M", "karras"):
        raise ValueError("The stock pipeline is set up for DPM++ 2M on the karras schedule.")
    scheduler = DPMSolverMultistepScheduler.from_config(
        {**model.card.scheduler_config(), "_class_name": "DPMSolverMultistepScheduler"},
        use_karras_sigmas=True,
    )
    parts: Any = (StockAutoencoder(model), None, None, model.unet, scheduler, None, None)
    pipeline = Stock(*parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)

    def run() -> Any:
        each, scene = task.batch_size, Scene(task.width, task.height)
        told = [model.tell(model.text([text])[0], scene) for text in (task.prompt, task.negative_prompt)]
        words, no_words = (with_class(one, model.classes, None).states for one in told)
        generators = [torch.Generator().manual_seed(task.seed + i) for i in range(each)]
        start = noise(generators, model.latent_shape(task.width, task.height))
        answer: Any = pipeline(
            prompt_embeds=words.expand(each, -1, -1).to(model.dtype),
            negative_prompt_embeds=no_words.expand(each, -1, -1).to(model.dtype),
            latents=start.to(model.device, model.dtype),
            num_inference_steps=task.steps,
            guidance_scale=task.guidance_scale,
            width=task.width,
            height=task.height,
        )
        return answer.images

    return run
