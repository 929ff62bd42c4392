"""Families beyond the U-Net: from a saved folder, our loop gives the stock pipeline's picture."""

import dataclasses
import inspect
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from modules.engine import curves
from modules.engine.generation import generate, noise
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.loading import load
from modules.models.pipelines import packed, unpacked
from modules.models.qwen_image import length_kept, seen_at
from modules.tasks import (
    ClassConditional,
    ImageToImage,
    Inpaint,
    InstructEdit,
    Limits,
    Task,
    TaskError,
    TextToImage,
)
from tests.tiny_pipelines import write_tiny_pipeline

SIZE = 128
ASKED = {"steps": 4, "seed": 7, "width": SIZE, "height": SIZE, "sampler": "Euler", "schedule": "default"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function that writes a tiny pipeline once, and gives its folder."""
    made: dict[str, Path] = {}

    def write(name: str, kind: str = "", **changes):
        if name not in made:
            made[name] = write_tiny_pipeline(tmp_path_factory.mktemp(name) / name, kind or name, **changes)
        return made[name]

    return write


def ours(folder: Path, task: Task):
    """Our steps, and the result, of a task on the model in a folder; the model too."""
    model = load(card_for_folder(folder), "cpu")
    *steps, result = generate(model, task)
    plotted = curves.curve(model.card, task, 1.0, (task.width, task.height))["visited"]
    for name, key in (("t", "timesteps"), ("alpha", "alpha"), ("sigma", "sigma"), ("snr", "snr")):
        np.testing.assert_allclose(result.info[key], plotted[name], rtol=1e-6, atol=1e-12)
    return model, steps, result


def start(model, task: Task) -> torch.Tensor:
    shape = model.latent_shape(task.width, task.height)
    return noise([torch.Generator().manual_seed(task.seed)], shape)


def stock(folder: Path, name: str):
    pipe = getattr(diffusers, name).from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def same(result, picture) -> None:
    """One picture to 1e-4 before rounding is one picture to one grey level after it."""
    theirs = np.asarray(picture, int)
    assert theirs.std() > 1
    assert np.abs(np.asarray(result.images[0], int) - theirs).max() <= 1


def test_stable_diffusion_3(folder):
    place = folder("sd3")
    task = TextToImage(prompt="a red cat", negative_prompt="blue", guidance_scale=4.0, model="sd3", **ASKED)
    model, steps, result = ours(place, task)
    pipe = stock(place, "StableDiffusion3Pipeline")
    asked = {"prompt": task.prompt, "negative_prompt": "blue", "guidance_scale": 4.0,
             "num_inference_steps": 4, "height": SIZE, "width": SIZE,
             "latents": start(model, task)}  # fmt: skip
    theirs = pipe(**asked, output_type="latent").images
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["timesteps"] == pytest.approx(pipe.scheduler.timesteps.tolist(), rel=1e-6)
    sigma = np.array(result.info["timesteps"]) / 1000
    np.testing.assert_allclose(result.info["snr"], ((1 - sigma) / sigma) ** 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("guidance", [3.5, 1.0])
def test_flux(folder, guidance):
    place = folder(f"flux-{guidance}", "flux", guidance=guidance != 1)
    task = TextToImage(prompt="a red cat", guidance_scale=guidance, model=place.name, **ASKED)
    model, steps, result = ours(place, task)
    pipe = stock(place, "FluxPipeline")
    latents = pipe._pack_latents(start(model, task), 1, 16, SIZE // 8, SIZE // 8)
    asked = {"prompt": task.prompt, "guidance_scale": guidance, "num_inference_steps": 4, "height": SIZE,
             "width": SIZE, "max_sequence_length": 512 if guidance != 1 else 256,
             "latents": latents}  # fmt: skip
    theirs = pipe._unpack_latents(pipe(**asked, output_type="latent").images, SIZE, SIZE, 8)
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["timesteps"] == pytest.approx(pipe.scheduler.timesteps.tolist(), rel=1e-6)
    with pytest.raises(TaskError, match=r"negative_prompt must be empty: flux-.* has its guidance"):
        model.conditions(dataclasses.replace(task, negative_prompt="blue"))
    if guidance == 1:
        with pytest.raises(TaskError, match=r"guidance_scale is 3; flux-1\.0 takes none, which is 1"):
            model.conditions(dataclasses.replace(task, guidance_scale=3.0))


@pytest.mark.parametrize("scale", [4.0, 1.0])
def test_dit(folder, scale):
    place = folder("dit")
    task = ClassConditional(class_name="crane (2)", class_scale=scale, model="dit",
                            **ASKED | {"sampler": "DDIM"})  # fmt: skip
    model, steps, result = ours(place, task)
    pipe = stock(place, "DiTPipeline")
    # the studio's DDIM begins its strides at timestep 1 for every model
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, steps_offset=1)
    generator = torch.Generator().manual_seed(7)
    theirs = pipe([2], guidance_scale=scale, num_inference_steps=4, generator=generator).images[0]
    assert card_for_folder(place).classes() == ["tench, Tinca tinca", "crane", "crane (2)"]
    assert steps[-1].guidance_norm == 0 or scale != 1
    same(result, theirs)
    for name in ("prompt", "negative_prompt"):
        with pytest.raises(TaskError, match=f"{name} must be empty: dit knows classes and no words"):
            model.conditions(dataclasses.replace(task, **{name: "a cat"}))
    with pytest.raises(TaskError, match="class_name is 'dog'"):
        model.conditions(dataclasses.replace(task, class_name="dog"))


def test_qwen_image(folder):
    place = folder("qwen-image")
    task = TextToImage(prompt="a red cat", negative_prompt="blue", guidance_scale=4.0, model="qwen-image",
                       **ASKED)  # fmt: skip
    model, steps, result = ours(place, task)
    pipe = stock(place, "QwenImagePipeline")
    asked = {"prompt": task.prompt, "negative_prompt": "blue", "true_cfg_scale": 4.0,
             "num_inference_steps": 4, "height": SIZE, "width": SIZE,
             "latents": pipe._pack_latents(start(model, task), 1, 16, SIZE // 8, SIZE // 8)}  # fmt: skip
    theirs = pipe._unpack_latents(pipe(**asked, output_type="latent").images, SIZE, SIZE, 8)[:, :, 0]
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["timesteps"] == pytest.approx(pipe.scheduler.timesteps.tolist(), rel=1e-6)


def test_qwen_s_guidance_keeps_the_length_of_every_token():
    value, own = torch.randn(2, 2, 16, 8, 4, generator=torch.Generator().manual_seed(0))
    tokens, plain = packed(value), packed(own)
    kept = tokens * plain.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(length_kept(value, own), unpacked(kept, 8, 4))


def test_z_image(folder):
    place = folder("z-image")
    task = TextToImage(prompt="a red cat", negative_prompt="blue", guidance_scale=4.0, model="z-image",
                       **ASKED)  # fmt: skip
    model, steps, result = ours(place, task)
    pipe = stock(place, "ZImagePipeline")
    asked = {"prompt": task.prompt, "negative_prompt": "blue", "guidance_scale": 3.0,  # counts from 0
             "num_inference_steps": 4, "height": SIZE, "width": SIZE}  # fmt: skip
    theirs = pipe(**asked, latents=start(model, task), output_type="latent").images
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked, latents=start(model, task)).images[0])
    assert result.info["timesteps"] == pytest.approx(pipe.scheduler.timesteps.tolist(), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_flux_2_klein(folder, scale):
    place = folder(f"klein-{scale}", "flux2", distilled=scale == 1)
    task = TextToImage(prompt="a red cat", guidance_scale=scale, model=place.name, **ASKED)
    model, steps, result = ours(place, task)
    pipe = stock(place, "Flux2KleinPipeline")
    asked = {"prompt": task.prompt, "guidance_scale": scale, "num_inference_steps": 4, "height": SIZE,
             "width": SIZE, "latents": start(model, task)}  # fmt: skip
    theirs = pipe(**asked, output_type="latent").images
    torch.testing.assert_close(model.unscaled(steps[-1].latents), theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["timesteps"] == pytest.approx(pipe.scheduler.timesteps.tolist(), rel=1e-6)
    assert model.card.limits == ({"guidance_scale": Limits(1.0, 1.0, 0.1)} if scale == 1 else {})


@pytest.mark.parametrize("name", ["sd3", "qwen-image", "klein-1.0"])
def test_other_pictures_are_painted_over_and_repainted_by_the_same_loop(folder, name):
    place = folder(name, "flux2" if "klein" in name else name)
    model = load(card_for_folder(place), "cpu")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (0, 0, SIZE // 2, SIZE))
    asked = ASKED | {"guidance_scale": 1.0, "prompt": "a cat", "model": name}
    steps = generate(model, ImageToImage(image=picture, strength=0.5, **asked))
    first = next(steps)
    assert (first.index, first.total) == (0, 2)
    assert model.preview(first.predicted_x0).shape == (1, 3, SIZE, SIZE)
    steps.close()  # stops at once, undecoded
    *_, result = generate(model, Inpaint(image=picture, mask=mask, **asked))
    kept = (np.asarray(result.images[0]), np.asarray(picture))
    assert np.array_equal(*(each[:, SIZE // 2 :] for each in kept))
    assert not np.array_equal(*(each[:, : SIZE // 2] for each in kept))


def test_latents_and_pictures_go_there_and_back(folder):
    for name in ("sd3", "qwen-image", "flux2"):
        model = load(card_for_folder(folder("klein-1.0" if name == "flux2" else name, name)), "cpu")
        latents = model.encode(torch.rand(2, 3, SIZE, 2 * SIZE) * 2 - 1)
        assert latents.shape == (2, *model.latent_shape(2 * SIZE, SIZE))
        torch.testing.assert_close(model.scaled(model.unscaled(latents)), latents)
        assert model.decode(latents).shape == (2, 3, SIZE, 2 * SIZE)


def test_a_batch_equals_its_singles(folder):
    model = load(card_for_folder(folder("z-image")), "cpu")
    task = TextToImage(prompt="a cat", guidance_scale=2.0, model="z-image", batch_size=2, **ASKED)
    *_, both = generate(model, task)
    for i in range(2):
        *_, one = generate(model, dataclasses.replace(task, batch_size=1, seed=7 + i))
        same(one, both.images[i])


def test_what_cannot_be_loaded_or_asked_is_a_sentence(folder, tmp_path):
    place = tmp_path / "broken"
    shutil.copytree(folder("sd3"), place)
    model = load(card_for_folder(place), "cpu")
    with pytest.raises(TaskError, match="broken wears no LoRAs: remove <lora:style>"):
        model.conditions(TextToImage(prompt="a cat <lora:style:1>"))
    assert model.conditions(TextToImage(prompt="cat " * 100, guidance_scale=1.0)).words_cut > 0
    (place / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(LoadError, match=r"is damaged or not whole: .* Copy or download the model again"):
        load(card_for_folder(place), "cpu")
    (place / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(LoadError, match="transformer holds only pickled weights"):
        load(card_for_folder(place), "cpu")


def test_kontext_edits_a_picture(folder):
    place = folder("kontext", "flux", kontext=True)
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE // 8, SIZE // 8, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    task = InstructEdit(prompt="make it red", image=picture, guidance_scale=2.5, model="kontext", **ASKED)
    model, steps, result = ours(place, task)
    pipe = stock(place, "FluxKontextPipeline")
    asked = {"image": picture, "prompt": task.prompt, "guidance_scale": 2.5, "num_inference_steps": 4,
             "height": SIZE, "width": SIZE, "max_area": SIZE * SIZE, "_auto_resize": False,
             "latents": pipe._pack_latents(start(model, task), 1, 16, SIZE // 8, SIZE // 8)}  # fmt: skip
    theirs = pipe._unpack_latents(pipe(**asked, output_type="latent").images, SIZE, SIZE, 8)
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["image_guidance_scale"] == 1.0
    *blind, _ = generate(model, TextToImage(prompt=task.prompt, guidance_scale=2.5, model="kontext", **ASKED))
    assert not torch.allclose(blind[-1].latents, theirs, atol=1e-3)


@pytest.mark.parametrize("scale", [4.0, 1.0])
@pytest.mark.parametrize("kind", ["Edit", "EditPlus"])
def test_qwen_edits_a_picture(kind, scale, folder, monkeypatch):
    place = folder(f"qwen-{kind}", "qwen-image", edit=kind)
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE // 8, SIZE // 8, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    task = InstructEdit(prompt="make it red", negative_prompt="blue", image=picture, guidance_scale=scale,
                        model=place.name, **ASKED)  # fmt: skip
    model, steps, result = ours(place, task)
    pipe = stock(place, f"QwenImage{kind}Pipeline")
    at_our_size(monkeypatch, pipe)
    asked = {"image": picture, "prompt": task.prompt, "negative_prompt": "blue", "true_cfg_scale": scale,
             "num_inference_steps": 4, "height": SIZE, "width": SIZE,
             "latents": pipe._pack_latents(start(model, task), 1, 16, SIZE // 8, SIZE // 8)}  # fmt: skip
    theirs = pipe._unpack_latents(pipe(**asked, output_type="latent").images, SIZE, SIZE, 8)[:, :, 0]
    torch.testing.assert_close(steps[-1].latents, theirs, atol=1e-4, rtol=1e-4)
    same(result, pipe(**asked).images[0])
    assert result.info["image_guidance_scale"] == 1.0
    assert model.card.tasks == ("instruct_edit",)


def at_our_size(monkeypatch, pipe):
    """Stock editors read a picture at a megapixel, whatever they paint; let this one take it as it is."""
    module = inspect.getmodule(type(pipe))
    own = module.calculate_dimensions

    def dimensions(area, ratio):
        return own(SIZE * SIZE if area == 1024 * 1024 else area, ratio)

    monkeypatch.setattr(module, "calculate_dimensions", dimensions)


def test_a_picture_is_seen_in_its_own_shape():
    assert seen_at(Image.new("RGB", (200, 100)), 384 * 384).size == (544, 256)
    assert seen_at(Image.new("RGB", (64, 512)), 64 * 64).size == (32, 192)
