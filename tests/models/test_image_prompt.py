"""An image prompt is one more weighted condition; alone it is the stock IP-Adapter; it leaves no trace."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from modules.engine.generation import generate, noise
from modules.images import to_tensor
from modules.models.adapters import dressing, undressed_after
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.image_prompt import crossings, prepared
from modules.models.loading import load
from modules.models.wardrobe import Wardrobe
from modules.tasks import ClassConditional, TaskError, TextToImage
from tests.models.test_adapters import painted, task, weights, write_lora
from tests.tiny import write_tiny_sdxl, write_tiny_stable_diffusion

SIDE, HIDDEN, PROJECTED = 32, 64, 24


def write_encoder(folder):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        image_size=SIDE, patch_size=8, projection_dim=PROJECTED,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)


def write_ip_adapter(path, unet, kind="plain"):
    """A random IP-Adapter in the layout of its authors."""
    source = torch.Generator().manual_seed(6)

    def random(*shape):
        return torch.randn(*shape, generator=source) / shape[-1] ** 0.5

    wide = unet.config.cross_attention_dim
    tensors = {
        f"ip_adapter.{2 * i + 1}.to_{which}_ip.weight": random(layer.to_k.out_features, wide) * 2
        for i, layer in enumerate(crossings(unet))
        for which in "kv"
    }
    if kind == "plain":
        own = {"proj.weight": random(4 * wide, PROJECTED), "proj.bias": random(4 * wide)}
        own |= {"norm.weight": torch.ones(wide), "norm.bias": random(wide)}
    else:  # "plus": a resampler of two rounds, with one head of 64 as diffusers counts them
        own = {
            "latents": random(1, 5, HIDDEN), "proj_in.weight": random(HIDDEN, HIDDEN),
            "proj_in.bias": random(HIDDEN), "proj_out.weight": random(wide, HIDDEN),
            "proj_out.bias": random(wide), "norm_out.weight": torch.ones(wide), "norm_out.bias": random(wide),
        }  # fmt: skip
        for i in range(4):
            for norm in ("norm1", "norm2"):
                own |= {
                    f"layers.{i}.0.{norm}.weight": torch.ones(HIDDEN),
                    f"layers.{i}.0.{norm}.bias": random(HIDDEN),
                }
            own |= {
                f"layers.{i}.0.to_q.weight": random(HIDDEN, HIDDEN),
                f"layers.{i}.0.to_kv.weight": random(2 * HIDDEN, HIDDEN),
                f"layers.{i}.0.to_out.weight": random(HIDDEN, HIDDEN),
                f"layers.{i}.1.0.weight": torch.ones(HIDDEN), f"layers.{i}.1.0.bias": random(HIDDEN),
                f"layers.{i}.1.1.weight": random(4 * HIDDEN, HIDDEN),
                f"layers.{i}.1.3.weight": random(HIDDEN, 4 * HIDDEN),
            }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {f"image_proj.{name}": value for name, value in own.items()}, path)


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory):
    return write_tiny_stable_diffusion(tmp_path_factory.mktemp("family") / "sd")


@pytest.fixture(scope="module")
def sd(sd_folder):
    return load(card_for_folder(sd_folder), "cpu")


@pytest.fixture(scope="module", params=["plain", "plus"])
def wardrobe(request, sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_encoder(folder / "ip_adapter" / "models" / "image_encoder")
    write_ip_adapter(folder / "ip_adapter" / "models" / "ip-adapter_sd15.safetensors", sd.unet, request.param)
    return Wardrobe(folder)


def stock(folder, wardrobe, asked, start, picture):
    from diffusers import DDIMScheduler, DiffusionPipeline
    from transformers import CLIPVisionModelWithProjection

    files = wardrobe.folder / "ip_adapter" / "models"
    seeing = CLIPVisionModelWithProjection.from_pretrained(files / "image_encoder")
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, image_encoder=seeing)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=True)
    pipe.load_ip_adapter(str(files), subfolder="", weight_name="ip-adapter_sd15.safetensors")
    return pipe(
        asked.negative_prompt, negative_prompt=asked.negative_prompt, num_inference_steps=asked.steps,
        guidance_scale=asked.image_prompt_scale, latents=start, height=128, width=128, output_type="latent",
        ip_adapter_image=prepared(picture, SIDE),
    ).images  # fmt: skip


def test_alone_it_is_the_stock_ip_adapter_and_leaves_no_trace(sd, sd_folder, wardrobe, picture):
    asked = task("", steps=4, image_prompt=picture, image_prompt_scale=3.0)
    model, before, plain = dressing(sd, wardrobe), weights(sd), painted(sd, task("a cat"))[0]
    latents, info = painted(model, asked)
    start = noise([torch.Generator().manual_seed(7)], sd.latent_shape(128, 128))
    theirs = stock(sd_folder, wardrobe, asked, start, picture)
    torch.testing.assert_close(latents, theirs, atol=1e-4, rtol=1e-4)
    (told,) = info["adapters"]
    assert (told["kind"], told["name"], told["weight"]) == ("ip_adapter", "ip-adapter_sd15", 3.0)
    assert weights(sd) == before
    assert torch.equal(painted(model, task("a cat"))[0], plain)
    with undressed_after(model):
        next(generate(model, asked))  # and never closed: the context ends it
    assert weights(sd) == before


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_on_sdxl_too_it_is_the_stock_one(kind, picture, tmp_path):
    """With guidance 0 by the words, both see the negative prompt, with the picture and without."""
    folder = write_tiny_sdxl(tmp_path / "xl")
    xl, files = load(card_for_folder(folder), "cpu"), tmp_path / "ip_adapter" / "models"
    write_encoder(files / "image_encoder")
    write_ip_adapter(files / "ip-adapter_sd15.safetensors", xl.unet, kind)
    wardrobe, plain = Wardrobe(tmp_path), painted(xl, task("a cat"))[0]
    asked = task("", negative_prompt="blue", guidance_scale=0.0, steps=4, image_prompt=picture,
                 image_prompt_scale=3.0)  # fmt: skip
    model, before = dressing(xl, wardrobe), weights(xl)
    latents, _ = painted(model, asked)
    start = noise([torch.Generator().manual_seed(7)], xl.latent_shape(128, 128))
    theirs = stock(folder, wardrobe, asked, start, picture)
    torch.testing.assert_close(latents, theirs, atol=1e-4, rtol=1e-4)
    assert weights(xl) == before
    assert torch.equal(painted(model, task("a cat"))[0], plain)


def test_it_is_one_more_term_beside_the_words(sd, wardrobe, picture):
    """What guidance adds up is base, words with no picture, and base with the picture; LoRAs go along."""
    write_lora(wardrobe.folder / "lora" / "one.safetensors", {"unet": sd.unet})
    model = dressing(sd, wardrobe)
    asked = task("a cat <lora:one:1>", negative_prompt="blue", image_prompt=picture, image_prompt_scale=2.5)
    x = torch.randn(2, *sd.latent_shape(128, 128), generator=torch.Generator().manual_seed(8))
    with undressed_after(model):
        found = model.conditions(asked)
        (words, w), (seen, v) = found.weighted
        assert (w, v) == (5.0, 2.5)
        assert torch.equal(seen.states, found.base.states)
        assert torch.equal(words.image, found.base.image)
        together = model.predict(torch.cat([x, x, x]), 300.0, [found.base, words, seen]).chunk(3)
        for one, each in zip((found.base, words, seen), together, strict=True):
            torch.testing.assert_close(model.predict(x, 300.0, [one]), each, atol=1e-5, rtol=1e-4)
    assert (together[2] - together[0]).abs().max() > 1e-3
    assert [told["kind"] for told in found.record["adapters"]] == ["lora", "ip_adapter"]
    with undressed_after(model):
        assert len(model.conditions(task("a cat", image_prompt=picture, image_prompt_scale=0)).weighted) == 1


def test_pictures_are_prepared_as_clip_s_own_processor_does(picture):
    from transformers import CLIPImageProcessor

    smooth = picture.resize((300, 200), Image.Resampling.BICUBIC)
    theirs = CLIPImageProcessor(size=SIDE, crop_size=SIDE)(smooth, return_tensors="pt").pixel_values
    assert (prepared(smooth, SIDE) - torch.as_tensor(theirs)).abs().mean() < 0.02
    assert prepared(Image.new("RGB", (SIDE, SIDE), (255, 0, 0)), SIDE)[0, :, 0, 0].tolist() == pytest.approx(
        [1.9303, -1.7521, -1.4802], abs=1e-3
    )
    assert to_tensor(smooth).shape == (1, 3, 200, 300)


def test_pocket_s_layout_can_have_one_too(tiny_folder, tmp_path, picture):
    pocket = load(card_for_folder(tiny_folder), "cpu")
    write_encoder(tmp_path / "ip_adapter" / "pocket" / "encoder")
    write_ip_adapter(tmp_path / "ip_adapter" / "pocket" / "pocket.safetensors", pocket.unet)
    model = dressing(pocket, Wardrobe(tmp_path))
    asked = ClassConditional(
        class_name="cat", steps=3, sampler="DDIM", schedule="default", seed=7, width=128, height=128,
        image_prompt=picture,
    )  # fmt: skip
    before = weights(pocket)
    seen, plain = painted(model, asked), painted(pocket, asked)
    assert (seen[0] - plain[0]).abs().max() > 1e-2
    assert weights(pocket) == before


def test_without_one_or_with_another_s_it_is_a_sentence(sd, tmp_path, picture):
    asked = task("", image_prompt=picture)
    assert Wardrobe().sight(sd.card) is None
    model = dressing(sd, Wardrobe(tmp_path))
    with (
        undressed_after(model),
        pytest.raises(TaskError, match="sd has no IP-Adapter here to look at it with"),
    ):
        model.conditions(asked)
    write_encoder(tmp_path / "ip_adapter" / "image_encoder")
    path = tmp_path / "ip_adapter" / "odd.safetensors"
    write_ip_adapter(path, sd.unet)
    assert model.wardrobe.sight(sd.card).weights == path
    from safetensors.torch import load_file

    tensors = load_file(path)
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("ip_adapter."))
    save_file({name: value for name, value in tensors.items() if f".{last}." not in name}, path)
    with (
        undressed_after(model),
        pytest.raises(LoadError, match=r"odd\.safetensors does not fit sd: it is for"),
    ):
        model.conditions(asked)
    config = json.loads((tmp_path / "ip_adapter" / "image_encoder" / "config.json").read_text())
    (tmp_path / "ip_adapter" / "image_encoder" / "config.json").write_text(
        json.dumps(config | {"projection_dim": 7})
    )
    assert model.wardrobe.sight(sd.card) is None
    assert TextToImage().image_prompt is None
