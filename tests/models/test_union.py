"""A ControlNet Union: one network that is told which kind of map it reads, as the stock pipeline tells it."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.loading import load
from modules.tasks import Controlled
from tests.tiny import TWO_TEXTS, write_tiny_sdxl

SLOPE = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny SDXL whose one ControlNet Union serves depth, and for a test what it never learned."""
    folder = write_tiny_sdxl(tmp_path_factory.mktemp("union") / "xl")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        union = diffusers.ControlNetUnionModel(
            **TWO_TEXTS, layers_per_block=1, block_out_channels=(16, 32), attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=8, num_trans_channel=16,
            num_trans_head=2, num_proj_channel=16, conditioning_embedding_out_channels=(4, 8, 8, 16),
        )  # fmt: skip
        for convolution in (*union.controlnet_down_blocks, union.controlnet_mid_block,
                            union.controlnet_cond_embedding.conv_out, union.spatial_ch_projs):  # fmt: skip
            torch.nn.init.normal_(convolution.weight, std=0.2)
    for kind in ("depth", "scribble"):
        union.save_pretrained(folder / "controlnet" / kind)
    return folder


def test_it_is_told_the_kind_of_the_map(folder):
    model = load(card_for_folder(folder), "cpu")
    task = Controlled(
        prompt="a red cat", negative_prompt="blue", steps=3, sampler="DDIM", schedule="default", seed=7,
        width=64, height=64, guidance_scale=4.0, control_type="depth", control_image=SLOPE, control_scale=0.8,
    )  # fmt: skip
    *steps, _ = generate(model, task)
    pipeline = diffusers.StableDiffusionXLControlNetUnionPipeline.from_pretrained(
        folder, controlnet=diffusers.ControlNetUnionModel.from_pretrained(folder / "controlnet" / "depth"),
        local_files_only=True, add_watermarker=False,
    )  # fmt: skip
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=True)
    start = noise([torch.Generator().manual_seed(7)], model.latent_shape(64, 64))
    theirs = pipeline(
        task.prompt, negative_prompt="blue", control_image=[SLOPE], control_mode=[1], width=64, height=64,
        num_inference_steps=3, guidance_scale=4.0, controlnet_conditioning_scale=0.8, latents=start,
        output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    with pytest.raises(LoadError, match="reads no scribble maps; it reads pose, depth"):
        model.control("scribble")


def test_a_union_in_one_file_is_the_same_network(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "xl")
    within = place / "controlnet"
    shutil.copy(within / "depth" / "diffusion_pytorch_model.safetensors", within / "canny.safetensors")
    model = load(card_for_folder(place), "cpu")
    one, other = (model.control(kind).network.args[0] for kind in ("canny", "depth"))
    assert one.config.num_control_type == other.config.num_control_type
    expected = other.state_dict()
    assert one.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in one.state_dict().items())
