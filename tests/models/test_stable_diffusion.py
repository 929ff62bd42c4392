"""SD 1, SD 2 and SDXL folders, as diffusers saves them: our loop gives the stock pipelines' latents."""

import dataclasses
import functools
import inspect

import diffusers
import numpy as np
import pytest
import torch

from modules.conditions import pose
from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.loading import load
from modules.tasks import Controlled, TextToImage
from tests.tiny import write_tiny_controlnet, write_tiny_sdxl, write_tiny_stable_diffusion

FAMILIES = {
    "sd1": lambda folder: write_tiny_stable_diffusion(folder),
    "sd2": lambda folder: write_tiny_stable_diffusion(folder, "v_prediction"),
    "sdxl": lambda folder: write_tiny_sdxl(folder),
}
TASK = TextToImage(
    prompt="a red cat", negative_prompt="blue", steps=4, sampler="DDIM", schedule="default", seed=7,
    width=64, height=64, guidance_scale=4.0,
)  # fmt: skip
SKELETON = pose.draw([pose.named_poses()["waving"]], 64, 64)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A pipeline of each family, with a ControlNet for pose and one for depth."""
    folder = FAMILIES[request.param](tmp_path_factory.mktemp("families") / request.param)
    for seed, kind in enumerate(("pose", "depth")):
        write_tiny_controlnet(folder, kind, seed)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load(card_for_folder(folder), "cpu")


def as_kind(kind, task=TASK, **more):
    """The same request as another kind of task."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in task.scalars().items() if name in names}, **more)


@functools.cache
def parts(folder):
    """The components of a stock pipeline, read once."""
    return diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True).components


def stock(folder, kind, **more):
    """A stock pipeline, with the studio's DDIM, which goes on to the clean picture as most tools' does."""
    large = (folder / "text_encoder_2").is_dir()
    kind = getattr(diffusers, kind.replace("StableDiffusion", "StableDiffusionXL") if large else kind)
    known = inspect.signature(kind.__init__).parameters
    kept = {name: part for name, part in parts(folder).items() if name in known}
    made = kind(**kept, **more, **({} if large else {"requires_safety_checker": False}))
    made.set_progress_bar_config(disable=True)
    made.scheduler = diffusers.DDIMScheduler.from_config(made.scheduler.config, set_alpha_to_one=True)
    return made


def theirs(pipeline, task, **more):
    """The stock pipeline's latents for a task."""
    asked = {
        "prompt": task.prompt, "negative_prompt": task.negative_prompt or None, "width": task.width,
        "height": task.height, "num_inference_steps": task.steps, "guidance_scale": task.guidance_scale,
        "output_type": "latent",
    }  # fmt: skip
    taken = inspect.signature(pipeline.__call__).parameters
    return pipeline(**{name: value for name, value in asked.items() if name in taken}, **more).images


def ours(model, task):
    """Our latents for a task, and its result."""
    *steps, result = generate(model, task)
    return steps[-1].latents, result


def start(model, task=TASK):
    return noise([torch.Generator().manual_seed(task.seed)], model.latent_shape(task.width, task.height))


def same(one, other):
    assert one.std() > 0.1
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("negative", ["blue", ""])
def test_text_to_image(negative, folder, model):
    task = dataclasses.replace(TASK, negative_prompt=negative)
    pipeline = stock(folder, "StableDiffusionPipeline")
    latents, result = ours(model, task)
    same(latents, theirs(pipeline, task, latents=start(model)))
    painted = pipeline(task.prompt, negative_prompt=negative or None, num_inference_steps=4, width=64,
                       height=64, guidance_scale=4.0, latents=start(model)).images[0]  # fmt: skip
    assert np.abs(np.asarray(result.images[0], int) - np.asarray(painted, int)).max() <= 1


def test_the_size_that_sdxl_is_told_is_that_of_the_picture(folder, model):
    task = dataclasses.replace(TASK, width=128, steps=2)
    said = model.conditions(task).base.added
    if "text_encoder_2" in {path.name for path in folder.iterdir()}:
        assert said["time_ids"].tolist() == [[64, 128, 0, 0, 64, 128]]
        assert said["text_embeds"].shape == (1, 32)
    else:
        assert said == {}
    latents, _ = ours(model, task)
    same(latents, theirs(stock(folder, "StableDiffusionPipeline"), task, latents=start(model, task)))


@pytest.mark.parametrize(
    "held", [{}, {"control_start": 0.0, "control_end": 1.0}, {"control_scale": 0.0}], ids=str
)
def test_controlnet(held, folder, model):
    control = diffusers.ControlNetModel.from_pretrained(folder / "controlnet" / "pose")
    pipeline = stock(folder, "StableDiffusionControlNetPipeline", controlnet=control)
    task = as_kind(Controlled, control_image=SKELETON, control_scale=0.8, control_start=0.1, control_end=0.7)
    task = dataclasses.replace(task, **held)
    latents, result = ours(model, task)
    stocks = theirs(
        pipeline, task, image=SKELETON, latents=start(model),
        controlnet_conditioning_scale=task.control_scale, control_guidance_start=task.control_start,
        control_guidance_end=task.control_end,
    )  # fmt: skip
    same(latents, stocks)
    assert result.info["control_map"].startswith("The picture is a drawn skeleton")


def test_a_prompt_of_two_windows_is_used_whole(folder, model):
    conditions = model.conditions(TextToImage(prompt="red cat, " * 15, model="sd"))  # seven pieces each
    width = model.unet.config.cross_attention_dim
    assert conditions.words_cut == 0
    assert conditions.base.states.shape == conditions.weighted[0][0].states.shape == (1, 154, width)


def test_a_guidance_weight_that_was_distilled_in(tmp_path):
    folder = write_tiny_stable_diffusion(tmp_path / "lcm", time_cond_proj_dim=16)
    model = load(card_for_folder(folder), "cpu")
    pipeline = stock(folder, "LatentConsistencyModelPipeline")
    pipeline.scheduler = diffusers.LCMScheduler.from_config(pipeline.scheduler.config)
    task = dataclasses.replace(TASK, sampler="LCM", steps=3, negative_prompt="", guidance_scale=8.0)
    latents, _ = ours(model, task)
    same(latents, theirs(pipeline, task, generator=torch.Generator().manual_seed(7)))
    passes = len(model.conditions(task).weighted)
    assert passes == 1


def test_two_texts_that_are_not_as_wide_as_the_network_are_a_sentence(tmp_path):
    folder = write_tiny_stable_diffusion(tmp_path / "odd", cross_attention_dim=48)
    with pytest.raises(LoadError, match="reads 48 numbers a token; its text has 32"):
        load(card_for_folder(folder), "cpu")
