"""The shipped weights: whole, small enough for plain git, repeatable, and listening to the prompt."""

import json

import numpy as np
import pytest

from modules.conditions.pose import draw, named_poses
from modules.engine.generation import generate
from modules.models.catalog import read_catalogue
from modules.models.files import fingerprint
from modules.models.loading import load
from modules.tasks import ClassConditional, Controlled, TextToImage

CARD = read_catalogue()["pocket"]


@pytest.fixture(scope="module")
def pocket():
    return load(CARD)


def painted(model, task):
    *_, result = generate(model, task)
    return [np.asarray(picture).astype(int) for picture in result.images], result.info


def test_every_file_is_listed_whole_and_under_ten_megabytes():
    assert fingerprint(CARD.folder)
    manifest = json.loads((CARD.folder / "manifest.json").read_text())
    assert all(entry["bytes"] < 10_000_000 for entry in manifest["files"].values())
    assert {"training", "sources", "licence"} <= set(manifest)


def test_latents_are_of_about_unit_variance(pocket):
    (first, second), _ = painted(pocket, TextToImage(prompt="heart", steps=8, seed=1, batch_size=2))
    pixels = np.stack([first, second]).transpose(0, 3, 1, 2) / 127.5 - 1
    import torch

    latents = pocket.encode(torch.from_numpy(pixels).float())
    assert latents.shape == (2, 8, 16, 16)
    assert 0.5 < latents.std() < 2


def test_the_same_recipe_gives_the_same_picture(pocket):
    task = TextToImage(prompt="a red apple", steps=6, seed=5)
    (first,), info = painted(pocket, task)
    (second,), _ = painted(pocket, task)
    assert (first == second).all()
    assert info["seed"] == 5
    assert first.std() > 10  # a picture, not a flat field


def test_colour_words_are_heard(pocket):
    def redness(colour):
        prompt = f"a {colour} heart on a white background"
        pictures, _ = painted(pocket, TextToImage(prompt=prompt, steps=10, seed=3, batch_size=4))
        return float(np.mean([(picture[..., 0] - picture[..., 2]).mean() for picture in pictures]))

    assert redness("red") > redness("blue") + 10


def test_the_class_changes_the_picture_and_weight_0_is_unconditional(pocket):
    def class_picture(name, scale):
        task = ClassConditional(class_name=name, class_scale=scale, steps=6, seed=2)
        return painted(pocket, task)[0][0]

    names = CARD.classes()
    assert len(names) >= 100
    apple, rocket = class_picture("apple", 4.0), class_picture("rocket", 4.0)
    assert np.abs(apple - rocket).mean() > 5
    assert (class_picture("apple", 0.0) == class_picture("rocket", 0.0)).all()


def test_a_person_stands_where_the_pose_says(pocket):
    def middle(x):
        person = tuple(point and (0.7 * point[0] + x, point[1]) for point in named_poses()["standing"])
        task = Controlled(
            prompt="a person in a red shirt on a white background", control_image=draw([person], 256, 256),
            control_type="pose", detect="never", steps=8, seed=1,
        )  # fmt: skip
        (picture,), info = painted(pocket, task)
        assert info["control_hash"] == fingerprint(CARD.controls["pose"])
        away = np.abs(picture - np.median(picture, (0, 1))).sum(-1)
        return (away * np.arange(256)).sum() / away.sum()

    assert middle(-0.1) + 60 < middle(0.4)


def test_control_strength_0_is_plain_pocket_bit_for_bit(pocket):
    skeleton = draw([named_poses()["standing"]], 256, 256)
    how = {"prompt": "a person", "steps": 3, "seed": 4}
    (free,), _ = painted(
        pocket, Controlled(control_image=skeleton, control_type="pose", control_scale=0.0, **how)
    )
    (plain,), _ = painted(pocket, TextToImage(**how))
    assert (free == plain).all()
