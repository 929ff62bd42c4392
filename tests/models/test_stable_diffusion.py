"""Stable Diffusion folders, as diffusers saves them: our loop gives the stock pipeline's picture."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)

from modules.conditions import pose
from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import Controlled, TextToImage
from tests.tiny import write_tiny_controlnet, write_tiny_stable_diffusion


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


def test_same_picture_as_the_stock_controlnet_pipeline(tmp_path):
    folder = write_tiny_stable_diffusion(tmp_path / "sd")
    control = ControlNetModel.from_pretrained(write_tiny_controlnet(folder, "pose"), local_files_only=True)
    model = load(card_for_folder(folder), "cpu")
    skeleton = pose.draw([pose.named_poses()["waving"]], 128, 128)
    task = Controlled(
        prompt="a red cat", negative_prompt="blue", steps=8, sampler="DDIM", schedule="default", seed=7,
        width=128, height=128, guidance_scale=4.0, model="sd", control_image=skeleton, control_scale=0.8,
        control_start=0.1, control_end=0.7,
    )  # fmt: skip
    stock = StableDiffusionControlNetPipeline.from_pretrained(
        folder, controlnet=control, local_files_only=True, safety_checker=None
    )
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    start = noise([torch.Generator().manual_seed(7)], model.latent_shape(128, 128))
    for held in ({}, {"control_start": 0.0, "control_end": 1.0}, {"control_scale": 0.0}):
        asked = dataclasses.replace(task, **held)
        *steps, ours = generate(model, asked)
        theirs = stock(
            task.prompt, skeleton, negative_prompt=task.negative_prompt, num_inference_steps=8,
            guidance_scale=4.0, latents=start,
            controlnet_conditioning_scale=asked.control_scale, control_guidance_start=asked.control_start,
            control_guidance_end=asked.control_end, output_type="latent",
        ).images  # fmt: skip
        torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
        assert ours.info["control_map"].startswith("The picture is a drawn skeleton")


def test_a_prompt_of_two_windows_is_used_whole(tmp_path):
    model = load(card_for_folder(write_tiny_stable_diffusion(tmp_path / "sd")), "cpu")
    conditions = model.conditions(TextToImage(prompt="red cat, " * 15, model="sd"))  # seven pieces each
    assert conditions.words_cut == 0
    assert conditions.base.states.shape == conditions.weighted[0][0].states.shape == (1, 154, 32)
