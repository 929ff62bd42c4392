"""A recipe is run again: the same machine gives the same picture, and what was not the same is named."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from modules.engine.generation import generate
from modules.engine.replay import ReplayError, compared, differing, task_of
from modules.metadata import Recipe, infotext, read, write
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import ClassConditional, Inpaint, TextToImage

TASK = TextToImage(
    prompt="a {red|blue} apple", steps=3, seed=11, width=64, height=64, batch_size=2, model="tiny"
)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load(card_for_folder(tiny_folder), "cpu")


def painted(model, task):
    *_, result = generate(model, task)
    return result


@pytest.mark.parametrize(
    "task",
    [TASK, dataclasses.replace(TASK, sampler="Euler a", schedule="default", variation_strength=0.2),
     ClassConditional(class_name="cat", steps=2, seed=2**62, width=64, height=64, model="tiny")],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_the_same_machine_makes_the_same_picture(model, task, suffix, tmp_path):
    first = painted(model, task)
    last = task.batch_size - 1
    write(first.images[last], tmp_path / f"a.{suffix}", first.info, last)
    with Image.open(tmp_path / f"a.{suffix}") as saved:
        recipe = read(saved)
        asked, index = task_of(recipe)
        again = painted(model, asked)
        found = compared(saved, again.images[index], recipe.info, again.info)
    assert found.identical
    assert found.fields == ()
    assert found.sentence() == "Identical: all 4,096 pixels, to the last bit."


def test_pixels_that_differ_are_counted_and_shown():
    one = Image.new("RGB", (4, 2), (10, 10, 10))
    other = one.copy()
    other.putpixel((3, 1), (10, 14, 9))
    other.putpixel((0, 0), (11, 10, 10))
    found = compared(one, other, {}, {})
    assert (found.count, found.total, found.largest, found.identical) == (2, 8, 4, False)
    assert found.sentence() == (
        "2 of 8 pixels differ, by 4 of 255 at most. Nothing that a recipe tells of differs."
    )
    heat = np.asarray(found.heat).sum(-1)
    assert heat[-1, -1] > heat[0, 0] > heat[0, -1]


def test_sizes_that_differ_leave_nothing_to_compare():
    found = compared(Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4)), {}, {})
    assert not found.identical
    assert "sizes differ" in found.sentence()


def test_what_differs_is_named_and_what_cannot_matter_is_not(model):
    info = painted(model, TASK).info
    other = info | {"seconds": 99, "device": "cuda:0", "versions": {**info["versions"], "torch": "1.0"}}
    other["guidance_norm"] = [0.0] * 3
    del other["model_hash"]
    found = {field.name: (field.then, field.now) for field in differing(info, other)}
    assert found == {
        "model_hash": (info["model_hash"], "not told"),
        "device": ("cpu", "cuda:0"),
        "torch version": (info["versions"]["torch"], "1.0"),
    }


def test_a_picture_of_another_tool_can_be_tried(model):
    recipe = infotext.read("a cat\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 9, Size: 64x64")
    asked, index = task_of(recipe)
    assert (asked.seed, asked.steps, index) == (9, 2, 0)


SEEN = {"kind": "text_to_image", "seeds": [1], "adapters": [{"kind": "ip_adapter", "picture": "0"}]}


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(Inpaint(seed=1), {"kind": "inpaint"}), Recipe(TextToImage(seed=1), SEEN)]
)
def test_what_cannot_be_made_again_is_said(recipe):
    with pytest.raises(ReplayError):
        task_of(recipe)
