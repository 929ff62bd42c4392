"""From task to pictures: seeds, batches, levels, cancelling, and a record that is enough to repeat it."""

import dataclasses
import json
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from modules.diffusion.sampling import Step
from modules.diffusion.schedule import visited_levels
from modules.engine.generation import GenerationError, Result, generate, noise, slerp
from modules.models.catalog import card_for_folder
from modules.models.latent import LatentModel
from modules.models.loading import load
from modules.presets.wildcards import resolved
from modules.tasks import LARGEST_SEED, ClassConditional, ImageToImage, Inpaint, Task, TextToImage

TASK = TextToImage(prompt="a red apple", steps=4, seed=11, width=128, height=128, model="tiny")


@pytest.fixture(scope="module")
def model(tiny_folder) -> LatentModel:
    return load(card_for_folder(tiny_folder), "cpu")


def paint(model: LatentModel, task: Task) -> tuple[list[Step], Result]:
    """All Steps of a task, and its Result."""
    *steps, result = generate(model, task)
    assert isinstance(result, Result)
    assert all(isinstance(step, Step) for step in steps)
    return steps, result


def apart(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


def test_steps_and_then_one_result(model):
    steps, result = paint(model, TASK)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [picture.size for picture in result.images] == [(128, 128)]


def test_the_same_seed_gives_the_same_picture_and_another_another(model):
    first, again = (paint(model, TASK)[1] for _ in range(2))
    other = paint(model, dataclasses.replace(TASK, seed=12))[1]
    assert apart(first.images[0], again.images[0]) == 0
    assert apart(first.images[0], other.images[0]) > 0


def test_a_template_is_drawn_once_by_the_seed_and_both_are_told(model):
    template = "a {red|blue|green} __animal__"
    asked = dataclasses.replace(TASK, prompt=template, batch_size=2, steps=2)
    result = paint(model, asked)[1]
    drawn = resolved(template, TASK.seed)
    assert (result.info["prompt"], result.info["prompt_template"]) == (drawn, template)
    assert "negative_prompt_template" not in result.info
    again = paint(model, dataclasses.replace(asked, prompt=drawn))[1]
    assert "prompt_template" not in again.info
    assert [apart(*pair) for pair in zip(result.images, again.images)] == [0, 0]


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ SDE"])
def test_a_batch_of_four_equals_four_singles(sampler, model):
    task = dataclasses.replace(TASK, sampler=sampler, schedule="default", batch_size=4)
    batch = paint(model, task)[1]
    assert batch.info["seeds"] == [11, 12, 13, 14]
    for i, picture in enumerate(batch.images):
        alone = paint(model, dataclasses.replace(task, seed=11 + i, batch_size=1))[1]
        assert apart(picture, alone.images[0]) <= 1
    assert apart(batch.images[0], batch.images[1]) > 1


def test_seed_minus_one_draws_one_and_says_which(model):
    task = dataclasses.replace(TASK, seed=-1)
    first, second = (paint(model, task)[1] for _ in range(2))
    assert 0 <= first.info["seed"] < 2**53
    assert first.info["seed"] != second.info["seed"]
    again = paint(model, dataclasses.replace(TASK, seed=first.info["seed"]))[1]
    assert apart(first.images[0], again.images[0]) == 0


def test_seeds_at_the_end_of_the_range_wrap_round(model):
    result = paint(model, dataclasses.replace(TASK, seed=LARGEST_SEED, batch_size=2, steps=1))[1]
    assert result.info["seeds"] == [LARGEST_SEED, 0]
    assert TextToImage(seed=result.info["seeds"][1])


def test_noise_is_that_of_diffusers():
    from diffusers.utils.torch_utils import randn_tensor

    shape = (8, 4, 6)
    ours = noise([torch.Generator().manual_seed(seed) for seed in (3, 4)], shape)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    assert torch.equal(ours, randn_tensor((2, *shape), generator=generators))


def test_the_arc_between_two_noises_is_noise():
    one, other = (torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    for share in (0.25, 0.5, 0.75):
        between = slerp(one, other, share)
        assert between.std() == pytest.approx(1, abs=0.02)  # a straight line would have 0.79, 0.71, 0.79
        assert between.dtype == torch.float32
    torch.testing.assert_close(slerp(one, other, 1), other)
    torch.testing.assert_close(slerp(one, one, 0.3), one)
    right = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 1 / 3)
    torch.testing.assert_close(right, torch.tensor([3**0.5 / 2, 0.5]))  # thirty degrees of ninety


def test_a_variation_leads_from_one_seed_to_the_other(model):
    near = dataclasses.replace(TASK, sampler="DDIM", schedule="default", variation_seed=70)
    plain, same, little, far, other = (
        paint(model, dataclasses.replace(near, **how))[1].images[0]
        for how in (
            {"variation_seed": -1},
            {"variation_strength": 0.0},
            {"variation_strength": 0.1},
            {"variation_strength": 1.0},
            {"seed": 70},
        )
    )
    assert apart(plain, same) == 0
    assert np.abs(np.asarray(plain, int) - np.asarray(little, int)).mean() > 0
    assert apart(far, other) <= 1


def test_a_batch_of_variations_equals_its_singles_and_a_drawn_seed_is_told(model):
    task = dataclasses.replace(TASK, sampler="Euler a", schedule="default", batch_size=3)
    batch = paint(model, dataclasses.replace(task, variation_strength=0.3))[1]
    assert batch.info["seeds"] == [11, 12, 13]
    assert batch.info["variation_seed"] >= 0
    told = {name: batch.info[name] for name in ("variation_seed", "variation_strength")}
    for i, picture in enumerate(batch.images):
        alone = paint(model, dataclasses.replace(task, seed=11 + i, batch_size=1, **told))[1]
        assert apart(picture, alone.images[0]) <= 1
    assert paint(model, TASK)[1].info["variation_seed"] == -1


@pytest.mark.parametrize(
    ("sampler", "schedule"), [("DDIM", "default"), ("Heun", "karras"), ("PNDM", "default")]
)
def test_the_record_holds_the_levels_that_are_plotted(sampler, schedule, model):
    task = dataclasses.replace(TASK, sampler=sampler, schedule=schedule, steps=5)
    info = paint(model, task)[1].info
    plotted = visited_levels(sampler, schedule, 5, model.noise_schedule)
    for name, column in (("timesteps", plotted.t), ("alpha", plotted.alpha), ("sigma", plotted.sigma),
                         ("snr", plotted.snr), ("log_snr", plotted.log_snr)):  # fmt: skip
        np.testing.assert_allclose(info[name], column, rtol=1e-6, atol=1e-9)


def test_the_record_is_json_and_repeats_the_picture(model):
    task = ClassConditional(
        prompt="red", class_name="cat", class_scale=2.0, steps=3, seed=5, width=192, height=128, model="tiny"
    )
    result = paint(model, task)[1]
    info = json.loads(json.dumps(result.info, allow_nan=False))
    promised = (
        "seed seeds sampler schedule steps guidance_scale model model_hash width height timesteps snr seconds"
    )
    assert set(info) >= {*promised.split(), "versions", "device", "dtype", "words_cut"}
    assert set(info["versions"]) >= {"torch", "diffusers", "epsilon_studio"}
    assert info["model_hash"] == model.hash
    assert len(info["guidance_norm"]) == len(info["snr"]) == 3
    again = Task.from_json(json.dumps({name: info[name] for name in ("kind", *task.scalars())}))
    assert again == task
    assert apart(paint(model, again)[1].images[0], result.images[0]) == 0


def test_an_empty_prompt_costs_one_network_pass(model):
    seen = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    try:
        paint(model, dataclasses.replace(TASK, prompt=""))
        paint(model, TASK)
        paint(model, dataclasses.replace(TASK, guidance_scale=1.0))
    finally:
        handle.remove()
    assert seen == [1] * 4 + [2] * 4 + [1] * 4


def test_closing_stops_at_once_and_frees_everything(model):
    decoded = []
    handle = model.autoencoder.decoder.register_forward_pre_hook(lambda *_: decoded.append(1))
    events = generate(model, TASK)
    step = next(events)
    assert isinstance(step, Step)
    kept = weakref.ref(step.latents)
    del step
    events.close()
    handle.remove()
    assert not decoded
    assert kept() is None
    assert list(events) == []


def test_time_that_the_caller_takes_is_not_counted(model):
    import time

    begun = time.perf_counter()
    for event in generate(model, TASK):
        if isinstance(event, Step):
            time.sleep(0.05)
    assert isinstance(event, Result)
    assert event.info["seconds"] <= time.perf_counter() - begun - 4 * 0.05 + 0.01


def test_what_is_not_a_number_is_never_a_picture(model):
    class Broken(torch.nn.Module):
        config = model.unet.config

        def forward(self, x, *_, **__):
            return (x * float("nan"),)

    broken = dataclasses.replace(model, unet=Broken())
    with pytest.raises(
        GenerationError, match=r"stopped being numbers after step 1 of 4 \(computed in float32\)"
    ):
        paint(broken, TASK)


def test_a_decoder_that_breaks_is_noticed_too(model):
    class Broken:
        def __getattr__(self, name):
            return getattr(model.autoencoder, name)

        def decode(self, latents):
            answer = model.autoencoder.decode(latents)
            answer.sample[0, 0, 0, 0] = float("nan")
            return answer

    with pytest.raises(GenerationError, match="in the decoder"):
        paint(dataclasses.replace(model, autoencoder=Broken()), TASK)


def test_words_that_were_cut_are_counted(model):
    assert paint(model, dataclasses.replace(TASK, prompt="cat " * 250, steps=1))[1].info["words_cut"] == 10


def photo(width: int = 150, height: int = 110) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def half_masked(width: int = 150, height: int = 110) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (40, 30, 100, 80))
    return mask


EDITS = {
    "image_to_image": ImageToImage(image=photo(), strength=0.5),
    "inpaint": Inpaint(image=photo(), mask=half_masked()),
    "only masked": Inpaint(image=photo(), mask=half_masked(), only_masked=True, strength=0.6),
    "outpaint": Inpaint(image=photo(), extend_right=40, start_from="noise"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_repeat_and_a_batch_equals_its_singles(edit, model):
    shared = {name: getattr(TASK, name) for name in ("prompt", "steps", "seed", "width", "height", "model")}
    task = dataclasses.replace(EDITS[edit], **shared)
    steps, result = paint(model, task)
    assert [(step.t, step.snr) for step in steps] == list(zip(result.info["timesteps"], result.info["snr"]))
    walked = visited_levels(task.sampler, task.schedule, task.steps, strength=task.strength)
    assert result.info["timesteps"] == pytest.approx(walked.t, abs=1e-6)
    assert apart(paint(model, task)[1].images[0], result.images[0]) == 0
    batch = paint(model, dataclasses.replace(task, batch_size=2))[1]
    assert apart(batch.images[0], result.images[0]) <= 1
    assert apart(batch.images[0], batch.images[1]) > 1


@pytest.mark.parametrize("start_from", ["original", "blurred", "noise"])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM"])
def test_unmasked_pixels_come_back_to_the_last_bit(start_from, sampler, model):
    picture, mask = photo(), half_masked()
    kept, image = np.asarray(mask) == 0, picture
    for seed in range(3):
        task = Inpaint(
            image=image, mask=mask, steps=3, sampler=sampler, schedule="trailing", seed=seed,
            start_from=start_from, width=128, height=128,
        )  # fmt: skip
        (image,) = paint(model, task)[1].images
    assert (np.asarray(image)[kept] == np.asarray(picture)[kept]).all()
    assert (np.asarray(image)[~kept] != np.asarray(picture)[~kept]).any()


def test_an_edit_says_what_it_was_given_and_how_large_it_became(model):
    task = Inpaint(image=photo(), mask=half_masked(), extend_up=10, steps=2, width=128, height=128)
    info = paint(model, task)[1].info
    assert info["size"] == [150, 120]
    assert set(info["edited"]) == {"image", "mask"}
    assert all(len(sum) == 64 for sum in info["edited"].values())
    json.dumps(info, allow_nan=False)


def test_the_weaker_the_change_the_closer_the_picture(model):
    """Of a random network, so only the walk's own share is judged: fewer steps, less change."""
    task = ImageToImage(image=photo(128, 128), steps=10, seed=1, width=128, height=128)
    start = np.asarray(photo(128, 128), float)
    away = []
    for strength in (0.1, 0.5, 1.0):
        (image,) = paint(model, dataclasses.replace(task, strength=strength))[1].images
        away.append(np.abs(np.asarray(image, float) - start).mean())
    assert away == sorted(away)
