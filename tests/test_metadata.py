"""Recipes in pictures: written whole, read back exactly, and understood by an independent reader."""

import json
import os
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules import metadata
from modules.metadata import infotext, read, write
from modules.tasks import ClassConditional, Task, TextToImage

TASK = ClassConditional(
    prompt='a "red" apple, (shiny: 1.2)\non a table', negative_prompt="blue, dull", class_name="cat face",
    seed=7, batch_size=2, steps=12, guidance_scale=4.5, class_scale=2.5, width=192, height=320,
)  # fmt: skip


def info_of(task: Task) -> dict:
    """The part of a Result's info that recipes need."""
    seeds = [task.seed + i for i in range(task.batch_size)]
    return {
        "kind": task.kind, **task.scalars(), "seeds": seeds, "model_hash": "0123456789", "snr": [0.5],
        "versions": {"epsilon_studio": "0.1.0"},
    }  # fmt: skip


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def test_the_first_picture_of_a_batch_restores_the_whole_task(picture, tmp_path):
    write(picture, tmp_path / "a.png", info_of(TASK))
    with Image.open(tmp_path / "a.png") as saved:
        recipe = read(saved)
        assert np.array_equal(np.asarray(saved), np.asarray(picture))
    assert recipe.task == TASK
    assert recipe.unread == ()
    assert recipe.info["snr"] == [0.5]


def test_a_later_picture_restores_itself_alone(picture, tmp_path):
    write(picture, tmp_path / "b.png", info_of(TASK), index=1)
    with Image.open(tmp_path / "b.png") as saved:
        task = read(saved).task
    assert task is not None
    assert (task.seed, task.batch_size) == (8, 1)


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_words_survive(tmp_path, prompt, negative):
    task = TextToImage(prompt=prompt, negative_prompt=negative, seed=2**63 - 1)
    write(Image.new("RGB", (1, 1)), tmp_path / "c.png", info_of(task))
    with Image.open(tmp_path / "c.png") as saved:
        assert read(saved).task == task


def test_infotext_reads_as_a1111_writes_it():
    lines = infotext.write(info_of(TASK)).split("\n")
    assert lines[:3] == ['a "red" apple, (shiny: 1.2)', "on a table", "Negative prompt: blue, dull"]
    assert lines[3].startswith(
        "Steps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 7, Size: 192x320, "
        "Model hash: 0123456789, Model: pocket"
    )
    assert len(lines) == 4


def test_an_independent_reader_understands_it(picture, tmp_path):
    from sd_parsers import ParserManager

    write(picture, tmp_path / "d.png", info_of(TASK))
    found = ParserManager().parse(tmp_path / "d.png")
    assert found is not None
    assert found.prompts[0].value == TASK.prompt
    assert found.negative_prompts[0].value == TASK.negative_prompt
    assert found.samplers[0].name == "DPM++ 2M"
    assert found.samplers[0].parameters["seed"] in (7, "7")
    assert found.samplers[0].parameters["steps"] in (12, "12")


def test_infotext_alone_gives_the_settings_back():
    one = ClassConditional(**{**TASK.scalars(), "batch_size": 1})
    recipe = infotext.read(infotext.write(info_of(one)))
    assert recipe.task == one
    assert recipe.unread == ()


def test_a_variation_is_told_by_a1111s_names():
    one = TextToImage(seed=5, variation_seed=6, variation_strength=0.25)
    text = infotext.write(info_of(one))
    assert "Variation seed: 6, Variation seed strength: 0.25" in text
    assert infotext.read(text).task == one
    assert "Variation" not in infotext.write(info_of(TextToImage(seed=5, variation_seed=6)))


def test_adapters_are_told_by_a1111s_names_and_stay_in_the_prompt():
    asked = TextToImage(prompt="a cat, moody <lora:soft:0.5>", seed=7)
    used = [
        {"kind": "lora", "name": "soft", "weight": 0.5, "hash": "aa11"},
        {"kind": "embedding", "name": "moody", "hash": "bb22"},
        {"kind": "lora", "name": "hard", "weight": 1.0, "hash": "cc33"},
    ]
    text = infotext.write(info_of(asked) | {"adapters": used})
    assert 'Lora hashes: "soft: aa11, hard: cc33", TI hashes: "moody: bb22"' in text
    found = infotext.read(text)
    assert (found.task.prompt, found.unread) == (asked.prompt, ())
    for odd in (7, ["soft"], [{}], None):
        assert "hashes" not in infotext.write(info_of(asked) | {"adapters": odd})


def test_a_picture_of_a1111_lists_what_has_no_place_here():
    recipe = infotext.read(
        "masterpiece, a cat\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, "
        "Schedule type: SGM Uniform, CFG scale: 7, Seed: 123, Size: 512x768, Model: dream, Clip skip: 2, "
        'Lora hashes: "a: 1, b: 2", Steps2: x'
    )
    assert recipe.task == TextToImage(
        prompt="masterpiece, a cat", negative_prompt="blurry", steps=20, sampler="DPM++ 2M",
        schedule="trailing", guidance_scale=7.0, seed=123, width=512, height=768, model="dream",
    )  # fmt: skip
    assert recipe.unread == ("Clip skip", "Steps2")


def test_values_out_of_limits_are_left_out_and_listed():
    recipe = infotext.read("cat\nSteps: 9999, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 500x512, Model: x")
    assert recipe.task is not None
    assert (recipe.task.steps, recipe.task.width, recipe.task.height) == (20, 256, 512)
    assert any("steps is 9999" in line for line in recipe.unread)
    assert any("width is 500" in line for line in recipe.unread)


@given(st.text(max_size=400))
def test_any_infotext_is_read_without_harm(source):
    recipe = infotext.read(source)
    assert recipe.task is None or isinstance(recipe.task, Task)


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "null", '"text"', '{"kind": "x"}', '{"kind": "text_to_image"}',
     '{"kind": [], "seeds": [1]}',
     '{"kind": "text_to_image", "seeds": 3}', '{"kind": "text_to_image", "seeds": [], "index": 5}',
     '{"kind": "text_to_image", "seeds": ["x", "y"], "index": 1}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_recipe_does_no_harm(damaged, tmp_path):
    chunks = PngInfo()
    chunks.add_itxt(metadata.files.RECIPE_CHUNK, damaged)
    Image.new("RGB", (1, 1)).save(tmp_path / "e.png", pnginfo=chunks)
    with Image.open(tmp_path / "e.png") as saved:
        recipe = read(saved)
    assert recipe.task is None or recipe.task == TextToImage()


def test_a_picture_without_a_recipe_has_none(picture):
    assert read(picture) == metadata.Recipe()


@pytest.mark.parametrize("step", ["save", "fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_behind(step, picture, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("the disk is full")

    owner = {"save": Image.Image, "fsync": os, "replace": os}[step]
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="disk is full"):
        write(picture, tmp_path / "f.png", info_of(TASK))
    assert list(tmp_path.iterdir()) == []


def test_our_chunk_is_plain_json(picture, tmp_path):
    write(picture, tmp_path / "g.png", info_of(TASK), index=1)
    with Image.open(tmp_path / "g.png") as saved:
        saved.load()
        assert json.loads(saved.text["epsilon_studio"]) == info_of(TASK) | {"index": 1}


INFOTEXT = "a cat, 猫\nNegative prompt: dull\nSteps: 9, Sampler: Euler, CFG scale: 6, Seed: 3, Size: 64x64"


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_the_exif_comment_of_other_tools_is_read(suffix, order, picture, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(metadata.files.EXIF)[metadata.files.USER_COMMENT] = b"UNICODE\0" + INFOTEXT.encode(order)
    picture.save(tmp_path / f"theirs.{suffix}", exif=exif)
    with Image.open(tmp_path / f"theirs.{suffix}") as saved:
        task = read(saved).task
    assert task is not None
    assert (task.prompt, task.negative_prompt, task.steps, task.seed) == ("a cat, 猫", "dull", 9, 3)


def test_an_exif_comment_that_says_nothing_is_no_recipe(picture, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(metadata.files.EXIF)[metadata.files.USER_COMMENT] = b"\xff\xd8\0"
    picture.save(tmp_path / "odd.jpg", exif=exif)
    with Image.open(tmp_path / "odd.jpg") as saved:
        assert read(saved).unread == ()


@pytest.mark.parametrize(
    ("more", "word"),
    [({}, "trainedAlgorithmicMedia"), ({"edited": {"image": "0"}}, "compositeWithTrainedAlgorithmicMedia")],
)
def test_every_picture_says_that_a_model_made_it(more, word, picture, tmp_path):
    write(picture, tmp_path / "marked.png", info_of(TASK) | more)
    with Image.open(tmp_path / "marked.png") as saved:
        packet = saved.text[metadata.files.XMP_CHUNK]
    described = ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?", 1)[0])[0][0]
    assert described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == (
        f"http://cv.iptc.org/newscodes/digitalsourcetype/{word}"
    )


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("index", [0, 1])
def test_jpeg_and_webp_carry_the_whole_recipe(suffix, index, picture, tmp_path):
    write(picture, tmp_path / f"a.{suffix}", info_of(TASK), index)
    with Image.open(tmp_path / f"a.{suffix}") as saved:
        recipe = read(saved)
    assert recipe.info == info_of(TASK) | {"index": index}
    assert recipe.task is not None
    assert (recipe.task.seed, recipe.unread) == (7 + index, ())


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_independent_reader_understands_every_format(suffix, picture, tmp_path):
    from sd_parsers import ParserManager

    task = TextToImage(prompt="ein Käfer, 猫 🍎", negative_prompt="blue, dull", seed=7, sampler="Euler")
    write(picture, tmp_path / f"b.{suffix}", info_of(task))
    found = ParserManager().parse(tmp_path / f"b.{suffix}")
    assert found is not None
    assert found.prompts[0].value == task.prompt
    assert found.negative_prompts[0].value == task.negative_prompt
    assert found.samplers[0].name == "Euler"
    assert found.samplers[0].parameters["seed"] in (7, "7")


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize(
    ("more", "word"),
    [({}, "trainedAlgorithmicMedia"), ({"edited": {"image": "0"}}, "compositeWithTrainedAlgorithmicMedia")],
)
def test_jpeg_and_webp_say_that_a_model_made_them(suffix, more, word, picture, tmp_path):
    write(picture, tmp_path / f"c.{suffix}", info_of(TASK) | more)
    with Image.open(tmp_path / f"c.{suffix}") as saved:
        packet = saved.info["xmp"].decode()
    described = ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?", 1)[0])[0][0]
    assert described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == (
        f"http://cv.iptc.org/newscodes/digitalsourcetype/{word}"
    )
    assert json.loads(described[0].text) == info_of(TASK) | more | {"index": 0}


@given(st.text(max_size=200))
def test_any_words_survive_in_a_webp(tmp_path, prompt):
    task = TextToImage(prompt=prompt, seed=1)
    write(Image.new("RGB", (1, 1)), tmp_path / "d.webp", info_of(task))
    with Image.open(tmp_path / "d.webp") as saved:
        assert read(saved).task == task
        ElementTree.fromstring(saved.info["xmp"].decode().split("?>", 1)[1].rsplit("<?", 1)[0])


def test_a_webp_loses_no_pixel(picture, tmp_path):
    write(picture, tmp_path / "e.webp", info_of(TASK))
    with Image.open(tmp_path / "e.webp") as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(picture))


def test_a_walk_too_long_for_a_jpeg_is_left_out_and_a_prompt_too_long_is_refused(picture, tmp_path):
    walk = dict.fromkeys(metadata.files.WALKED, [0.123456789] * 1000)
    write(picture, tmp_path / "f.jpg", info_of(TASK) | walk)
    with Image.open(tmp_path / "f.jpg") as saved:
        recipe = read(saved)
    assert recipe.task == TASK
    assert not set(walk) & set(recipe.info)
    endless = TextToImage(prompt="🍎" * 10_000, negative_prompt="🍐" * 10_000, seed=1)
    with pytest.raises(metadata.MetadataError, match="PNG"):
        write(picture, tmp_path / "g.jpg", info_of(endless))
    assert not (tmp_path / "g.jpg").exists()


@pytest.mark.parametrize(
    ("said", "sampler", "schedule"),
    [
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M", "karras"),
        ("Sampler: DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "exponential"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M", "karras"),
        ("Sampler: Euler a, Schedule type: Automatic", "Euler a", "default"),
        ("Sampler: PLMS", "PNDM", "default"),
        ("Sampler: Euler, Schedule type: Uniform", "Euler", "default"),
    ],
)
def test_older_names_of_samplers_are_understood(said, sampler, schedule):
    task = infotext.read(f"a cat\nSteps: 20, {said}, CFG scale: 7, Seed: 5").task
    assert task is not None
    assert (task.sampler, task.schedule) == (sampler, schedule)


@pytest.mark.parametrize(
    ("said", "kind", "unread"),
    [
        ("Denoising strength: 0.4", "image_to_image", ()),
        ("Denoising strength: 0.4, Mask blur: 4", "inpaint", ("Mask blur",)),
        (
            "Denoising strength: 0.4, Hires upscale: 2",
            "text_to_image",
            ("Denoising strength", "Hires upscale"),
        ),
    ],
)
def test_a_strength_tells_what_was_asked_for(said, kind, unread):
    recipe = infotext.read(f"a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, {said}")
    assert recipe.task is not None
    assert recipe.task.kind == kind
    assert recipe.unread == (("Denoising strength", "Hires upscale") if unread is None else unread)
    assert getattr(recipe.task, "strength", 0.4) == 0.4
