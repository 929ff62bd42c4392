"""The latent model: Pocket's token layout, its conditions, and shapes in and out."""

import dataclasses

import pytest
import torch

from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.latent import LatentModel
from modules.models.loading import load, set_threads
from modules.tasks import ClassConditional, TaskError, TextToImage


@pytest.fixture(scope="module")
def model(tiny_folder) -> LatentModel:
    return load(card_for_folder(tiny_folder), "cpu")


def test_tokens_are_the_text_and_then_one_class_token(model):
    found = model.conditions(ClassConditional(prompt="a red apple", class_name="cat", class_scale=2.0))
    (prompt, guidance), (classed, class_scale) = found.weighted
    words, empty = (encoded.states for encoded in model.text(["a red apple", ""]))
    no_class, cat = model.classes(None), model.classes("cat")
    assert (guidance, class_scale, found.words_cut) == (5.0, 2.0, 0)
    torch.testing.assert_close(found.base.states, torch.cat([empty, no_class], dim=1))
    torch.testing.assert_close(prompt.states, torch.cat([words, no_class], dim=1))
    torch.testing.assert_close(classed.states, torch.cat([empty, cat], dim=1))
    assert prompt.states.shape == (1, 33, 32)


def test_the_null_class_is_the_last_row(model):
    torch.testing.assert_close(model.classes(None)[0, 0], model.classes.weight[-1])
    torch.testing.assert_close(model.classes("apple")[0, 0], model.classes.weight[0])


def test_the_negative_prompt_is_the_base(model):
    found = model.conditions(TextToImage(prompt="cat", negative_prompt="blue"))
    torch.testing.assert_close(found.base.states[:, :32], model.text(["blue"])[0].states)


@pytest.mark.parametrize(
    ("task", "count"),
    [
        (TextToImage(), 0),
        (TextToImage(prompt="  \n"), 0),
        (TextToImage(prompt="cat"), 1),
        (TextToImage(negative_prompt="cat"), 1),  # away from cats, towards anything
        (ClassConditional(class_name="cat"), 1),
        (ClassConditional(class_name="cat", negative_prompt="blue"), 1),
        (ClassConditional(class_name="cat", prompt="red"), 2),
    ],
)
def test_a_condition_only_where_something_is_asked(task, count, model):
    assert len(model.conditions(task).weighted) == count


def test_a_long_prompt_keeps_one_class_token_and_equal_lengths(model):
    found = model.conditions(ClassConditional(prompt="red apple " * 30, class_name="cat"))
    lengths = {found.base.states.shape[1], *(condition.states.shape[1] for condition, _ in found.weighted)}
    assert len(lengths) == 1
    assert lengths.pop() % 32 == 1


@pytest.mark.parametrize(
    ("task", "read"),
    [
        (TextToImage(prompt="cat"), ["cat", ""]),
        (TextToImage(prompt=" cat ", negative_prompt="cat"), ["cat"]),
        (TextToImage(), [""]),
        (TextToImage(prompt="cat", negative_prompt="blue"), ["cat", "blue"]),
        (ClassConditional(class_name="cat"), [""]),
        (ClassConditional(class_name="cat", prompt="red", negative_prompt="blue"), ["red", "blue", ""]),
    ],
)
def test_no_text_is_read_twice_nor_without_need(model, task, read):
    asked = []

    def text(prompts):
        asked.extend(prompts)
        return model.text(prompts)

    dataclasses.replace(model, text=text).conditions(task)
    assert asked == read


def test_no_such_class_is_a_sentence(model):
    with pytest.raises(TaskError, match="class_name is 'dog'; it must be one of apple, cat, rocket, star"):
        model.conditions(ClassConditional(class_name="dog"))


def test_shapes_and_scale(model):
    pictures = torch.rand(2, 3, 128, 192) * 2 - 1
    latents = model.encode(pictures)
    assert latents.shape == (2, *model.latent_shape(192, 128)) == (2, 8, 8, 12)
    raw = model.autoencoder.encode(pictures).latent
    torch.testing.assert_close(latents, raw * 0.7)
    decoded = model.decode(latents)
    assert decoded.shape == pictures.shape
    assert decoded.abs().max() <= 1
    torch.testing.assert_close(decoded, model.autoencoder.decode(raw).sample.clamp(-1, 1))


def test_previews_of_large_latents_are_small(model):
    assert model.preview(torch.randn(1, 8, 32, 16)).shape == (1, 3, 256, 128)
    assert model.preview(torch.randn(1, 8, 16, 16)).shape == (1, 3, 256, 256)


def test_predict_stacks_conditions_as_guidance_does(model):
    found = model.conditions(TextToImage(prompt="cat"))
    base, cat = found.base, found.weighted[0][0]
    x = torch.randn(2, 8, 16, 16)
    both = model.predict(torch.cat([x, x]), 500.5, [base, cat])
    torch.testing.assert_close(both[:2], model.predict(x, 500.5, [base]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both[2:], model.predict(x, 500.5, [cat]), atol=1e-5, rtol=1e-4)
    assert (both[2:] - both[:2]).abs().max() > 1e-4
    assert both.dtype == torch.float32
    assert not both.requires_grad


def test_fractional_timesteps_reach_the_network(model):
    found = model.conditions(TextToImage())
    x = torch.randn(1, 8, 16, 16)
    assert not torch.equal(model.predict(x, 500.0, [found.base]), model.predict(x, 500.5, [found.base]))


def test_bfloat16_is_close_to_float32(model, tiny_folder):
    half = load(card_for_folder(tiny_folder), "cpu", "bfloat16")
    assert half.dtype == next(half.unet.parameters()).dtype == torch.bfloat16
    x, found = torch.randn(1, 8, 16, 16), model.conditions(TextToImage(prompt="cat"))
    whole, rough = (one.predict(x, 300.0, [found.base]) for one in (model, half))
    assert rough.dtype == torch.float32
    assert (whole - rough).abs().mean() < 0.05 * whole.abs().mean()
    assert half.hash == model.hash


def test_weights_that_do_not_fit_their_config_are_a_sentence(tiny_folder, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    (folder / "manifest.json").unlink()
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"cross_attention_dim": 48}))
    with pytest.raises(LoadError, match=r"weights in .*unet do not fit its config\.json"):
        load(card_for_folder(folder), "cpu")


def test_a_missing_row_of_classes_is_a_sentence(tiny_folder, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    (folder / "manifest.json").unlink()
    (folder / "class_embedding" / "classes.json").write_text('["apple"]')
    with pytest.raises(LoadError, match="5 rows for 1 classes"):
        load(card_for_folder(folder), "cpu")


def test_threads_follow_the_environment_else_the_machine(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads() == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        assert 1 <= set_threads() <= before
    finally:
        torch.set_num_threads(before)


def test_a_model_is_frozen(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.hash = "x"
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert not model.unet.training
