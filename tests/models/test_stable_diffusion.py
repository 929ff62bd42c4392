"""Stable Diffusion folders, as diffusers saves them: our loop gives the stock pipeline's picture."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import TextToImage
from tests.tiny import write_tiny_stable_diffusion


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_same_picture_as_the_stock_pipeline(prediction_type, tmp_path):
    folder = write_tiny_stable_diffusion(tmp_path / "sd", prediction_type)
    model = load(card_for_folder(folder), "cpu")
    task = TextToImage(
        prompt="a red cat", negative_prompt="blue", steps=6, sampler="DDIM", schedule="default", seed=7,
        width=128, height=128, guidance_scale=4.0, model="sd",
    )  # fmt: skip
    *_, ours = generate(model, task)

    stock = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    # SD's own configuration stops one level short of clean; the studio's DDIM, as most tools', goes on.
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    start = noise([torch.Generator().manual_seed(7)], model.latent_shape(128, 128))
    theirs = stock(
        task.prompt, negative_prompt=task.negative_prompt, num_inference_steps=6, guidance_scale=4.0,
        latents=start, height=128, width=128,
    ).images[0]  # fmt: skip
    difference = np.abs(np.asarray(ours.images[0], int) - np.asarray(theirs, int))
    assert difference.max() <= 1
    assert np.asarray(theirs).std() > 1


def test_a_prompt_of_two_windows_is_used_whole(tmp_path):
    model = load(card_for_folder(write_tiny_stable_diffusion(tmp_path / "sd")), "cpu")
    conditions = model.conditions(TextToImage(prompt="red cat, " * 15, model="sd"))  # seven pieces each
    assert conditions.words_cut == 0
    assert conditions.base.states.shape == conditions.weighted[0][0].states.shape == (1, 154, 32)
