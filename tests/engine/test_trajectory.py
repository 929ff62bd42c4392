"""The steps that are kept are the steps that were walked, within a bound, and found by their pictures."""

import gc

import numpy as np
import pytest
import torch
from PIL import Image

from modules.diffusion.parameterization import noised
from modules.engine.generation import Result, generate
from modules.engine.trajectory import CLEAN, HEAT, NOISY, WITHOUT, StepsError, Tape, Trajectories, heat_map
from modules.models.catalog import card_for_folder
from modules.models.latent import LatentModel
from modules.models.loading import load
from modules.tasks import ClassConditional, TextToImage

TASK = TextToImage(prompt="a red apple", steps=5, seed=11, width=128, height=64, batch_size=2, model="tiny")


@pytest.fixture(scope="module")
def model(tiny_folder) -> LatentModel:
    return load(card_for_folder(tiny_folder), "cpu")


def recorded(model, task, **bounds):
    """What is kept of a run, its Steps and its Result."""
    kept = Trajectories(**bounds)
    *steps, result = kept.recorded(model, task)
    assert isinstance(result, Result)
    return kept, steps, result


def near(kept: torch.Tensor, true: torch.Tensor) -> bool:
    return torch.allclose(kept.float(), true.float(), rtol=2e-3, atol=2e-3)


def test_recording_changes_no_bit_of_the_picture(model):
    _, steps, result = recorded(model, TASK)
    *plain, untouched = generate(model, TASK)
    assert [image.tobytes() for image in result.images] == [image.tobytes() for image in untouched.images]
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(steps, plain))


def test_the_moments_are_the_steps_that_were_walked(model):
    kept, steps, result = recorded(model, TASK)
    trajectory, picture = kept.find(result.images[1])
    assert (trajectory.total, picture) == (5, 1)
    for before, step, moment in zip([None, *steps], steps, trajectory.moments, strict=False):
        assert (moment.index, moment.t, moment.snr) == (step.index, step.t, step.snr)
        assert near(moment.latents[CLEAN], step.predicted_x0)
        if before is not None:  # what a step gives is what the next is given
            assert near(moment.latents[NOISY], before.latents)


def test_the_heat_is_what_guidance_added(model):
    kept, steps, result = recorded(model, TASK)
    for step, moment in zip(steps, kept.find(result.images[0])[0].moments):
        assert step.guidance_norm > 0
        norm = moment.latents[HEAT].float().square().mean().sqrt()
        assert norm == pytest.approx(step.guidance_norm, rel=2e-3)
        without, prompt = moment.latents[WITHOUT].float(), moment.latents["prompt"].float()
        guided = without + TASK.guidance_scale * (prompt - without)  # x_0 is affine in eps
        assert torch.allclose(guided, moment.latents[CLEAN].float(), rtol=0.02, atol=0.05)


def test_each_answer_is_the_clean_picture_that_it_implies(model):
    kept, steps, result = recorded(model, TASK)
    moment = kept.find(result.images[0])[0].moments[2]
    noise = (moment.latents[NOISY].float() - moment.alpha * moment.latents["prompt"].float()) / moment.sigma
    again = noised(moment.latents["prompt"].float(), noise, moment.alpha, moment.sigma)
    assert near(moment.latents[NOISY], again)
    assert steps[2].sigma == moment.sigma


def test_class_and_prompt_have_their_own_names(model):
    task = ClassConditional(prompt="a red", class_name="cat", steps=2, seed=1, width=64, height=64)
    kept, _, result = recorded(model, task)
    assert kept.find(result.images[0])[0].names == [NOISY, WITHOUT, "prompt", "class", HEAT, CLEAN]


def test_without_guidance_there_is_nothing_to_compare(model):
    task = TextToImage(prompt="a cat", guidance_scale=1.0, steps=2, seed=1, width=64, height=64, model="tiny")
    kept, _, result = recorded(model, task)
    assert kept.find(result.images[0])[0].names == [NOISY, CLEAN]


@pytest.mark.parametrize("sampler", ["Heun", "DPM++ SDE", "PNDM"])
def test_every_network_call_is_a_moment(model, sampler):
    task = TextToImage(prompt="a", sampler=sampler, schedule="default", steps=3, seed=1, width=64, height=64)
    kept, steps, result = recorded(model, task)
    moments = kept.find(result.images[0])[0].moments
    assert [moment.index for moment in moments] == [step.index for step in steps]
    assert len(moments) > 3


def test_long_and_large_runs_are_thinned_to_a_bound(model):
    kept, _, result = recorded(model, TASK, most_bytes=30_000)
    trajectory, _ = kept.find(result.images[0])
    assert trajectory.bytes <= 15_000
    assert [moment.index for moment in trajectory.moments] == [0, 3, 4]


def test_what_is_larger_than_a_frame_is_made_smaller_and_its_noise_stays_loud(model):
    tape = Tape(model, TASK)
    large = torch.randn(1, 8, 64, 64)
    assert tape._small(large, NOISY).shape == tape._small(large, CLEAN).shape == (1, 8, 16, 16)
    assert tape._small(large, NOISY).float().std() == pytest.approx(1, abs=0.1)


def test_the_oldest_runs_are_forgotten(model):
    kept = Trajectories(most_runs=2)
    results = []
    for seed in range(3):
        task = TextToImage(steps=1, seed=seed, width=64, height=64, model="tiny")
        results.append([*kept.recorded(model, task)][-1])
    with pytest.raises(StepsError, match="latest"):
        kept.find(results[0].images[0])
    assert kept.find(results[1].images[0])[1] == kept.find(results[2].images[0])[1] == 0


def test_a_run_that_is_stopped_is_not_kept(model):
    kept = Trajectories()
    events = kept.recorded(model, TASK)
    next(events)
    events.close()
    assert kept._kept == []


def test_frames_are_small_pictures_and_raw_latents_are_squares(model):
    kept, _, result = recorded(model, TASK)
    trajectory, picture = kept.find(result.images[0])
    frames = trajectory.frames([0, 4], [NOISY, CLEAN, HEAT, "class"], picture)
    assert [list(frame) for frame in frames] == [[NOISY, CLEAN, HEAT]] * 2
    assert {each.size for frame in frames for each in frame.values()} == {(256, 128)}
    final = result.images[0].resize((256, 128), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(frames[1][CLEAN], int) - np.asarray(final, int)).max() <= 4  # half precision
    raw = np.asarray(trajectory.frames([0], [NOISY], picture, raw=True)[0][NOISY])
    assert raw.shape == (128, 256, 3)
    assert (raw[:32, :32] == raw[0, 0]).all()
    assert not (raw == raw[0, 0]).all()


def test_frames_need_the_model_that_walked_them(tiny_folder):
    model = load(card_for_folder(tiny_folder), "cpu")
    task = TextToImage(steps=1, seed=0, width=64, height=64, model="tiny")
    kept, _, result = recorded(model, task)
    del model
    gc.collect()
    with pytest.raises(StepsError, match="Another model"):
        kept.find(result.images[0])[0].frames([0], [CLEAN])


def test_heat_goes_from_dark_to_bright():
    colours = np.asarray(heat_map(np.array([[0.0, 0.5, 1.0]]))).astype(int).sum(-1)[0]
    assert colours[0] < colours[128] < colours[-1]
