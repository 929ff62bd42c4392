"""ControlNets beside a model: found, checked, loaded late, held for their share of the steps, and summed."""

import dataclasses
import itertools
import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from modules.conditions import pose
from modules.conditions.depth import depth_map
from modules.diffusion.editing import inpainted
from modules.diffusion.guidance import guided
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import make_scheduler, visited_levels
from modules.engine.generation import generate
from modules.engine.studio import Engine
from modules.models import controls
from modules.models.catalog import card_for_folder, read_catalogue
from modules.models.controls import load_control
from modules.models.files import LoadError, fingerprint
from modules.models.loading import load
from modules.models.maps import Control, holding, led
from modules.settings import Settings
from modules.tasks import Controlled, TaskError, TextToImage
from tests.tiny import write_manifest, write_tiny_controlnet

SKELETON = pose.draw([pose.named_poses()["waving"]], 128, 128)
TASK = Controlled(
    prompt="a red apple", steps=4, seed=11, width=128, height=128, model="tiny", sampler="DDIM",
    schedule="default", control_image=SKELETON,
)  # fmt: skip
SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
}


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """The tiny family with a ControlNet for pose and one for depth."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("controlled") / "tiny")
    for seed, kind in enumerate(("pose", "depth")):
        write_manifest(write_tiny_controlnet(folder, kind, seed))
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load(card_for_folder(folder), "cpu")


def calls(model, task):
    """The result of a task, its last latents, and how often each ControlNet ran."""
    counts = {}
    counting = [
        model.control(kind).network.register_forward_pre_hook(
            lambda *_, kind=kind: counts.update({kind: counts.get(kind, 0) + 1})
        )
        for kind in model.card.controls
    ]
    try:
        *steps, result = generate(model, task)
    finally:
        for hook in counting:
            hook.remove()
    return result, steps[-1].latents, counts


def test_a_card_has_the_controlnets_that_lie_beside_its_weights(folder, tiny_folder, tmp_path):
    card = card_for_folder(folder)
    assert list(card.controls) == ["depth", "pose"]
    assert "controlnet" in card.tasks
    assert "controlnet" not in card_for_folder(tiny_folder).tasks
    with pytest.raises(TaskError, match="control_type is 'canny'; it must be one of depth, pose"):
        card.check(Controlled(control_type="canny"))
    entry = {"title": "X", "family": "pocket", "source": "a", "tasks": []}
    entry["controls"] = {"pose": str(folder / "controlnet" / "pose")}
    (tmp_path / "models.yaml").write_text(json.dumps({"x": entry}))
    card = read_catalogue(tmp_path / "models.yaml")["x"]
    assert card.controls == {"pose": folder / "controlnet" / "pose"}
    assert card.tasks == ("controlnet",)


def test_one_controlnet_may_serve_several_types(folder):
    both = dict.fromkeys(("pose", "canny"), folder / "controlnet" / "pose")
    model = load(dataclasses.replace(card_for_folder(folder), controls=both), "cpu")
    assert model.control("pose") is model.control("canny")


def test_controlnets_leave_the_hash_and_the_manifest_of_their_model_alone(folder, tiny_folder):
    assert fingerprint(folder) == fingerprint(tiny_folder)


def test_loaded_when_first_asked_for_and_then_kept(folder, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        controls, "load_control", lambda model, path: loaded.append(path) or load_control(model, path)
    )
    model = load(card_for_folder(folder), "cpu")
    list(generate(model, TextToImage(prompt="cat", steps=1, width=128, height=128)))
    list(generate(model, dataclasses.replace(TASK, control_scale=0.0)))
    assert loaded == []
    result = calls(model, TASK)[0]
    assert model.control("pose") is model.control("pose")
    assert loaded.count(folder / "controlnet" / "pose") == 1
    assert result.info["control_hash"] == model.control("pose").hash != model.hash
    assert "a drawn skeleton" in result.info["control_map"]
    json.dumps(result.info, allow_nan=False)


def test_strength_nought_is_no_control_to_the_last_bit(model):
    shared = {field.name: getattr(TASK, field.name) for field in dataclasses.fields(TextToImage)}
    plain = TextToImage(**shared)
    *steps, without = generate(model, plain)
    result, latents, counts = calls(model, dataclasses.replace(TASK, control_scale=0.0))
    assert torch.equal(latents, steps[-1].latents)
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(without.images[0]))
    assert counts == {}
    slope = depth_map(np.linspace(1, 3, 128)[:, None].repeat(128, 1))
    both = dataclasses.replace(TASK, control_type_2="depth", control_image_2=slope)
    neither = dataclasses.replace(both, control_scale=0.0, control_scale_2=0.0)
    assert torch.equal(calls(model, neither)[1], steps[-1].latents)
    first_alone = calls(model, dataclasses.replace(both, control_scale_2=0.0))
    assert torch.equal(first_alone[1], calls(model, TASK)[1])
    assert first_alone[2] == {"pose": 4}
    assert calls(model, both)[2] == {"pose": 4, "depth": 4}
    assert (calls(model, TASK)[1] - latents).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("start", "end", "held"),
    [(0, 1, 10), (0, 0.5, 5), (0.5, 1, 5), (0.25, 0.75, 4), (0.3, 0.3, 0), (0.05, 1, 9), (0, 0.95, 9)],
)
def test_a_map_holds_for_its_share_of_the_steps_as_in_diffusers(start, end, held, model):
    timesteps = [float(t) for t in range(10, 0, -1)]
    keep = [not (i / 10 < start or (i + 1) / 10 > end) for i in range(10)]
    assert holding(timesteps, start, end) == [t for t, kept in zip(timesteps, keep) if kept]
    assert len(holding(timesteps, start, end)) == held
    task = dataclasses.replace(TASK, steps=10, control_start=start, control_end=end)
    assert calls(model, task)[2] == ({"pose": held} if held else {})


def test_the_base_keeps_the_map_and_drops_the_prompt(model):
    """With guidance 0 only the base is asked; it must feel the map."""
    bare = dataclasses.replace(TASK, guidance_scale=0.0)
    with_map, without = (calls(model, one)[1] for one in (bare, dataclasses.replace(bare, control_scale=0.0)))
    assert (with_map - without).abs().max() > 1e-3
    other_words = dataclasses.replace(bare, prompt="a blue star")
    assert torch.equal(calls(model, other_words)[1], with_map)


def test_several_maps_add_up_each_with_its_weight(model):
    x = torch.randn(2, 8, 8, 8)
    base = model.conditions(TextToImage()).base
    maps = [torch.rand(1, 3, 128, 128) for _ in range(2)]
    pair = [Control(model.control(kind).network, one, scale) for kind, one, scale
            in zip(("pose", "depth"), maps, (0.7, 0.4))]  # fmt: skip
    told = (x, torch.tensor(400.0), base.states.expand(2, -1, -1))
    said = [one.network(*told, one.picture.expand(2, -1, -1, -1), return_dict=False) for one in pair]
    down = [0.7 * a + 0.4 * b for a, b in zip(said[0][0], said[1][0])]
    middle = 0.7 * said[0][1] + 0.4 * said[1][1]
    by_hand = model.unet(*told, down_block_additional_residuals=down, mid_block_additional_residual=middle)
    torch.testing.assert_close(model.predict(x, 400.0, [base], pair), by_hand.sample.detach())
    early = dataclasses.replace(pair[1], last=500.0)  # over before timestep 400
    torch.testing.assert_close(model.predict(x, 400.0, [base], [pair[0], early]),
                               model.predict(x, 400.0, [base], pair[:1]))  # fmt: skip


def test_two_maps_hold_inside_a_mask_while_the_rest_stays_known(model):
    """Inpainting wraps the guided network, whatever leads that: pose, depth and a mask at once."""
    slope = depth_map(np.linspace(1, 3, 128)[:, None].repeat(128, 1))
    both = dataclasses.replace(TASK, control_type_2="depth", control_image_2=slope)
    known, unit = (torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 3:7] = 1
    inside, ends = mask.bool().expand_as(known), []
    for task in (both, dataclasses.replace(both, control_scale_2=0.0), TextToImage(prompt=TASK.prompt)):
        levels = visited_levels(TASK.sampler, TASK.schedule, TASK.steps, model.noise_schedule)
        asked = model.conditions(task, levels.t.tolist())
        led = guided(partial(model.predict, controls=asked.controls), asked.base, asked.weighted)
        keeping = inpainted(led, known, mask, unit, model.noise_schedule)
        scheduler = make_scheduler(TASK.sampler, TASK.schedule, model.noise_schedule)
        *_, last = sample(keeping, scheduler, unit, TASK.steps)
        torch.testing.assert_close(last.latents[~inside], known[~inside], rtol=0, atol=1e-3)
        ends.append(last.latents[inside])
    assert all((one - other).abs().max() > 1e-3 for one, other in itertools.combinations(ends, 2))


def test_pockets_maps_are_of_picture_size_and_shrink_by_sixteen(model):
    skips, _ = model.control("pose").network(
        torch.randn(1, 8, 8, 12), torch.tensor(1.0), torch.randn(1, 33, 32), torch.rand(1, 3, 128, 192),
        return_dict=False,
    )  # fmt: skip
    assert skips[0].shape[-2:] == (8, 12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cross_attention_dim": 48}, "its text width is 48, the model's 32"),
        ({"block_out_channels": [16, 64]}, r"its widths are \[16, 64\], the model's \[16, 32\]"),
        (SDXL, "its extra conditioning is text_time, the model's None"),
    ],
)
def test_a_controlnet_of_another_family_is_a_sentence(changes, words, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    write_tiny_controlnet(folder, "pose", **changes)
    with pytest.raises(LoadError, match=f"does not fit odd: {words}. A ControlNet works only with"):
        list(generate(load(card_for_folder(folder), "cpu"), dataclasses.replace(TASK, model="odd")))


def test_a_controlnet_for_eight_times_smaller_latents_is_a_sentence(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    config = json.loads((write_tiny_controlnet(folder, "pose") / "config.json").read_text())
    config["conditioning_embedding_out_channels"] = [4, 8, 8, 16]
    (folder / "controlnet" / "pose" / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="it shrinks maps by 8, the model its pictures by 16"):
        load(card_for_folder(folder), "cpu").control("pose")


def test_a_damaged_controlnet_is_a_sentence_and_the_model_still_paints(folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "odd")
    weights = next((folder / "controlnet" / "pose").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-7])
    model = load(card_for_folder(folder), "cpu")
    with pytest.raises(LoadError, match="half a file or another one"):
        list(generate(model, dataclasses.replace(TASK, model="odd")))
    list(generate(model, TextToImage(steps=1, width=128, height=128, model="odd")))


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"control_image": None}, "control_image", "control_image is missing"),
        ({"control_type": "depth"}, "control_image", "which is no depth map"),
        ({"control_image": depth_map(np.eye(64) + 1)}, "control_image", "found nobody|which is no pose map"),
        ({"control_type": "canny"}, "control_type", "must be one of depth, pose"),
        ({"control_type_2": "canny"}, "control_type_2", "must be one of depth, pose"),
        ({"control_type_2": "depth"}, "control_image_2", "control_image_2 is missing"),
        ({"control_type_2": "depth", "control_image_2": SKELETON}, "control_image_2", "is no depth map"),
    ],
)
def test_the_studio_refuses_before_it_runs(changes, field, words, folder):
    engine = Engine(Settings(model=str(folder), device="cpu"))
    with pytest.raises(TaskError, match=words) as refusal:
        engine.run(dataclasses.replace(TASK, **changes))
    assert refusal.value.field == field
    assert engine.control_map(TASK).picture.size == (128, 128)
    assert engine.controls("tiny") == ["depth", "pose"]


def test_a_controlnet_that_brings_a_decoder_paints_with_it_only_where_its_map_holds():
    brought, own, picture = object(), object(), torch.zeros(1, 3, 8, 8)
    control = Control(None, picture, first=800.0, last=400.0, unet=brought)
    plain = Control(None, picture)
    assert led((), 500.0, own) is own
    assert led((plain,), 500.0, own) is own
    assert led((plain, control), 500.0, own) is brought
    assert led((plain, control), 900.0, own) is own
    assert led((plain, control), 399.0, own) is own
