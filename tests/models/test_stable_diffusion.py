"""SD 1, SD 2 and SDXL folders, as diffusers saves them: our loop gives the stock pipelines' latents."""

import dataclasses
import functools
import inspect

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from modules.conditions import pose
from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.loading import load
from modules.tasks import ClassConditional, Controlled, ImageToImage, Inpaint, InstructEdit, TextToImage
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
SLOPE = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))).convert("RGB")
PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))
MASK = Image.new("L", (64, 64))
MASK.paste(255, (16, 8, 48, 40))  # on the grid of latents, where both agree on what is masked


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


@pytest.fixture
def mean_of_the_encoder(monkeypatch):
    """The stock pipelines take the encoder's mean, as we do, instead of a sample around it."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def as_kind(kind, task=TASK, **more):
    """The same request as another kind of task."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in task.scalars().items() if name in names} | more)


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


def test_two_controlnets_at_once(folder, model):
    networks = [
        diffusers.ControlNetModel.from_pretrained(folder / "controlnet" / kind) for kind in ("pose", "depth")
    ]
    pipeline = stock(folder, "StableDiffusionControlNetPipeline", controlnet=networks)
    task = as_kind(Controlled, control_image=SKELETON, control_scale=0.8, control_type_2="depth",
                   control_image_2=SLOPE, control_scale_2=0.5)  # fmt: skip
    latents, result = ours(model, task)
    same(latents, theirs(pipeline, task, image=[SKELETON, SLOPE], latents=start(model),
                         controlnet_conditioning_scale=[0.8, 0.5]))  # fmt: skip
    assert result.info["control_hash"] != result.info["control_hash_2"]
    assert "depth map" in result.info["control_map_2"]


def test_image_to_image(folder, model, mean_of_the_encoder):
    task = as_kind(ImageToImage, image=PICTURE, strength=0.6)
    latents, _ = ours(model, dataclasses.replace(task, steps=5))
    pipeline = stock(folder, "StableDiffusionImg2ImgPipeline")
    generator = torch.Generator().manual_seed(7)
    same(latents, theirs(pipeline, dataclasses.replace(TASK, steps=5), image=PICTURE, strength=0.6,
                         generator=generator))  # fmt: skip


def test_inpainting_with_four_channels(folder, model, mean_of_the_encoder):
    task = as_kind(Inpaint, image=PICTURE, mask=MASK, strength=0.6, start_from="original", mask_feather=0)
    latents, _ = ours(model, dataclasses.replace(task, steps=5))
    same(latents, stock_inpainting(folder, 5, strength=0.6))


@pytest.mark.parametrize("steps", [1, 4])
def test_at_strength_1_the_first_call_too_is_shown_what_is_known(steps, folder, model, mean_of_the_encoder):
    """The stock pipeline's sees noise alone. Shown what ours is shown, it gives the same latents."""
    task = as_kind(Inpaint, image=PICTURE, mask=MASK, steps=steps, start_from="noise", mask_feather=0)
    seen = []
    watching = model.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    latents, _ = ours(model, task)
    watching.remove()
    inside = torch.from_numpy(np.asarray(MASK)[::8, ::8].copy()) > 0
    torch.testing.assert_close(seen[0][:1, :, inside], start(model)[:, :, inside])  # noise, and nothing else
    told = iter(seen[:1])
    same(latents, stock_inpainting(folder, steps, lambda _, args: (next(told, args[0]), *args[1:])))
    blind = stock_inpainting(folder, steps)
    torch.testing.assert_close(blind[..., ~inside], latents[..., ~inside])
    assert (blind - latents).abs().max() > 1e-3


def stock_inpainting(folder, steps, before=None, **more):
    """The stock pipeline's latents for the picture and the mask; `before` is hung on its U-Net."""
    pipeline = stock(folder, "StableDiffusionInpaintPipeline")
    if steps == 1:  # the studio's one step begins at the noise, not at its end
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    hung = pipeline.unet.register_forward_pre_hook(before) if before else None
    latents = theirs(pipeline, dataclasses.replace(TASK, steps=steps), image=PICTURE, mask_image=MASK,
                     generator=torch.Generator().manual_seed(7), **{"strength": 1.0, **more})  # fmt: skip
    if hung:
        hung.remove()
    return latents


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("write", [write_tiny_stable_diffusion, write_tiny_sdxl])
def test_inpainting_with_nine_channels(write, strength, tmp_path, mean_of_the_encoder):
    folder = write(tmp_path / "inpainting", in_channels=9)
    model = load(card_for_folder(folder), "cpu")
    assert model.card.tasks == ("inpaint",)
    task = as_kind(Inpaint, image=PICTURE, mask=MASK, strength=strength, start_from="original", steps=5)
    latents, result = ours(model, task)
    pipeline = stock(folder, "StableDiffusionInpaintPipeline")
    same(latents, theirs(pipeline, dataclasses.replace(TASK, steps=5), image=PICTURE, mask_image=MASK,
                         strength=strength, generator=torch.Generator().manual_seed(7)))  # fmt: skip
    spared = np.asarray(MASK) == 0
    assert (np.asarray(result.images[0])[spared] == np.asarray(PICTURE)[spared]).all()


@pytest.mark.parametrize(("words", "picture"), [(4.0, 1.5), (1.0, 1.5), (4.0, 4.0)])
def test_an_edit_by_instruction(words, picture, tmp_path, mean_of_the_encoder):
    folder = write_tiny_stable_diffusion(tmp_path / "edits", in_channels=8)
    model = load(card_for_folder(folder), "cpu")
    assert model.card.tasks == ("instruct_edit",)
    task = as_kind(InstructEdit, image=PICTURE, image_guidance_scale=picture, guidance_scale=words)
    calls = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    latents, result = ours(model, task)
    handle.remove()
    assert set(calls) == {3 if words != picture else 2}  # a weight of 0 costs no pass
    assert result.info["image_guidance_scale"] == picture
    assert set(result.info["edited"]) == {"image"}
    pipeline = stock(folder, "StableDiffusionInstructPix2PixPipeline")
    by_hand = dataclasses.replace(TASK, guidance_scale=words + 1e-6)  # stock guides above 1 only
    same(latents, theirs(pipeline, by_hand, image=PICTURE, image_guidance_scale=picture,
                         latents=start(model)))  # fmt: skip


def test_a_class_is_passed_over_where_there_are_none(folder, model):
    plain = model.conditions(TASK)
    classed = model.conditions(as_kind(ClassConditional, class_name="cat"))
    assert len(plain.weighted) == len(classed.weighted) == 1
    assert torch.equal(plain.base.states, classed.base.states)
