"""Training a ControlNet: it starts as no control at all, leaves its base alone, resumes, and ships."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from modules.conditions.control import recognise
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.training import control, scene_cache
from modules.training.checkpoint import load_state
from modules.training.rebase import rebase
from modules.training.toyland.__main__ import render_scenes
from modules.training.toyland.scenes import scene


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six small scenes, as modules.training.toyland would render them."""
    folder = tmp_path_factory.mktemp("scenes")
    drawn = [scene(seed, size=64) for seed in range(6)]
    np.save(folder / "rgb.npy", np.stack([one.image for one in drawn]))
    np.save(folder / "depth.npy", np.stack([one.depth for one in drawn]).astype(np.float16))
    absent = np.full((18, 3), np.nan, np.float32)
    np.save(
        folder / "keypoints.npy",
        np.stack([absent if one.keypoints is None else one.keypoints for one in drawn]),
    )
    (folder / "captions.json").write_text(json.dumps([one.captions for one in drawn]))
    return folder


@pytest.fixture
def base(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "base")


def train(base, data, folder, kinds=("pose",), steps=6, unlock=False):
    plan = control.Plan(kinds=kinds, steps=steps, batch_size=2, peak=1e-2, decay=0.25, unlock=unlock)
    control.train(base, data, folder, plan)


def test_scenes_are_rendered_with_their_keypoints(tmp_path, monkeypatch):
    monkeypatch.setattr("modules.training.toyland.__main__.SIZE", 64)
    monkeypatch.setattr("modules.training.toyland.__main__.scene", lambda seed: scene(seed, size=64))
    render_scenes(tmp_path, 3)
    keypoints = np.load(tmp_path / "keypoints.npy")
    first = scene(0, size=64)
    expected = np.full((18, 3), np.nan) if first.keypoints is None else first.keypoints
    np.testing.assert_allclose(keypoints[0], expected)


@pytest.mark.parametrize("kind", scene_cache.MAPS)
def test_maps_are_those_that_the_app_recognises(kind, data):
    rows, maps = scene_cache.maps_of(data, kind)
    keypoints = np.load(data / "keypoints.npy")
    figures = np.flatnonzero(~np.isnan(keypoints).any((1, 2)))
    assert list(rows) == (list(figures) if kind == "pose" else list(range(6)))
    assert maps.shape == (len(rows), 64, 64, 3)
    large = [Image.fromarray(one).resize((256, 256)) for one in maps]
    assert {recognise(picture) for picture in large} == {kind}
    assert len(scene_cache.maps_of(data, kind, most=2)[0]) == 2


def test_hidden_joints_are_drawn_for_half_of_the_pictures_and_outside_ones_never():
    keypoints = np.full((18, 3), 32.0, np.float32)
    keypoints[:, 0] = np.linspace(4, 60, 18)
    keypoints[:, 2] = 1
    whole = scene_cache.pose_map(keypoints, 64, hidden=False)
    keypoints[4, 2] = 0
    assert np.array_equal(scene_cache.pose_map(keypoints, 64, hidden=True), whole)
    assert not np.array_equal(scene_cache.pose_map(keypoints, 64, hidden=False), whole)
    keypoints[4, 0] = 70
    assert np.array_equal(
        scene_cache.pose_map(keypoints, 64, hidden=True), scene_cache.pose_map(keypoints, 64, hidden=False)
    )


@pytest.mark.parametrize("unlock", [False, True])
def test_it_starts_as_no_control_and_the_encoder_never_learns(base, unlock):
    model = load(card_for_folder(base), "cpu")
    network = control.Led(model, unlock)
    told = (torch.randn(2, 8, 4, 4), torch.tensor([10, 900]), torch.randn(2, 33, 32))
    heard = network.first_layers(torch.rand(2, 3, 64, 64))
    said = network(*told, heard)
    assert torch.equal(said, model.unet(*told, return_dict=False)[0])
    said.square().mean().backward()
    assert network.control.controlnet_mid_block.weight.grad.abs().max() > 0
    learns = {name for name, weight in network.unet.named_parameters() if weight.grad is not None}
    assert bool(learns) == unlock
    assert not any(name.startswith(("down_blocks", "conv_in", "time_embedding")) for name in learns)
    torch.testing.assert_close(network.control.down_blocks.state_dict(), model.unet.down_blocks.state_dict())


def test_what_is_heard_once_is_what_the_whole_controlnet_hears(base):
    """The first layers are left out of the steps: the network as it is exported must say the same."""
    network = control.Led(load(card_for_folder(base), "cpu"), unlock=False)
    control.waken(network.ear, maps := torch.rand(4, 3, 64, 64))
    for zero in (network.ear.conv_out, *network.control.controlnet_down_blocks):
        torch.nn.init.normal_(zero.weight)
    told = (torch.randn(4, 8, 4, 4), torch.tensor([10, 900, 5, 70]), torch.randn(4, 33, 32))
    in_steps = network(*told, network.first_layers(maps))
    down, middle = network.controlnet()(*told, maps, return_dict=False)
    more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    assert torch.equal(in_steps, network.unet(*told, **more, return_dict=False)[0])


def test_a_wakened_encoder_hands_maps_on_at_unit_variance(base, data):
    network = control.encoder_copy(load(card_for_folder(base), "cpu"))
    embedding = network.controlnet_cond_embedding
    maps = scene_cache.as_input(scene_cache.maps_of(data, "pose")[1])

    def spread():
        """How much the last layer's answer differs from place to place."""
        seen = maps
        for layer in (embedding.conv_in, *embedding.blocks):
            seen = torch.nn.functional.silu(layer(seen))
        return seen.std((2, 3)).mean().item()

    asleep = spread()
    control.waken(embedding, maps)
    assert asleep < 0.01
    assert spread() > 0.3
    assert embedding.conv_out.weight.abs().max() == 0


def test_captions_are_dropped_for_three_in_ten_and_every_kind_has_its_share():
    heard = {kind: (np.arange(4), np.full((4, 1, 1, 1), i)) for i, kind in enumerate(scene_cache.SHARES)}
    cached = scene_cache.Cached(
        latents=np.zeros((4, 1, 1, 1), np.float16),
        text=np.ones((4, 3, 1, 1), np.float16),
        empty=np.zeros((1, 1, 1), np.float32),
        heard=heard,
    )
    _, text, heard = scene_cache.batch(cached, 20_000, np.random.default_rng(0))
    assert text.mean().item() == pytest.approx(0.7, abs=0.02)
    for i, share in enumerate(scene_cache.SHARES.values()):
        assert (heard == i).float().mean().item() == pytest.approx(share, abs=0.02)


def test_a_killed_run_goes_on_as_if_nothing_had_been(base, data, tmp_path, monkeypatch):
    train(base, data, tmp_path / "whole")
    clock = iter(range(0, 10**9, 301))  # every step is due for a checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(control.time, "time", lambda: next(clock))
        drawn, calls = control.batch, []

        def dies(*given):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return drawn(*given)

        patch.setattr(control, "batch", dies)
        with pytest.raises(KeyboardInterrupt):
            train(base, data, tmp_path / "killed")
    assert load_state(tmp_path / "killed" / "control.pt")["step"] == 3
    train(base, data, tmp_path / "killed")
    straight, resumed = (load_state(tmp_path / name / "control.pt") for name in ("whole", "killed"))
    assert straight["step"] == resumed["step"] == 6
    for part in ("network", "average"):
        for name, value in straight[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)


def test_what_is_cached_is_made_anew_for_another_base(base, data, tmp_path):
    model = load(card_for_folder(base), "cpu")
    folder = tmp_path / "run"
    folder.mkdir()
    first = scene_cache.cache(data, folder, model)
    made = (folder / "latents.npy").stat().st_mtime_ns
    scene_cache.cache(data, folder, model)
    assert (folder / "latents.npy").stat().st_mtime_ns == made
    picture = torch.from_numpy(np.load(data / "rgb.npy")[2:3]).permute(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(first.latents[2], model.encode(picture)[0], atol=2e-3)
    (folder / "cache.json").write_text("{}")
    scene_cache.cache(data, folder, model)
    assert (folder / "latents.npy").stat().st_mtime_ns > made


def test_a_controlnet_follows_its_base_and_keeps_what_it_learned(base, data, tmp_path):
    train(base, data, tmp_path / "run", steps=2, unlock=True)
    learned = load_state(tmp_path / "run" / "control.pt")
    moved_on = shutil.copytree(base, tmp_path / "moved")
    (moved_on / "manifest.json").unlink(missing_ok=True)
    for path in (moved_on / "unet").glob("*.safetensors"):
        save_file({name: weight + 0.25 for name, weight in load_file(path).items()}, path)
    rebase(base, moved_on, tmp_path / "run")
    followed = load_state(tmp_path / "run" / "control.pt")
    assert followed["step"] == learned["step"]
    ours = load(card_for_folder(base), "cpu").unet.state_dict()
    for name, weight in followed["network"].items():
        copied = name.removeprefix("control.").removeprefix("unet.") in ours and name[:4] != "ear."
        torch.testing.assert_close(weight, learned["network"][name] + (0.25 if copied else 0))


def test_what_is_exported_is_loaded_as_it_was_trained(base, data, tmp_path):
    before = load(card_for_folder(base), "cpu").hash
    train(base, data, tmp_path / "run", steps=2)
    out = control.export(base, tmp_path / "run", ["pose"], {"hours": 0.1})
    assert out == base / "controlnet" / "pose"
    assert all(path.stat().st_size < 10_000_000 for path in out.iterdir())
    model = load(card_for_folder(base), "cpu")
    assert model.hash == before
    assert "controlnet" in model.card.tasks
    average = load_state(tmp_path / "run" / "control.pt")["average"]
    network = model.control("pose").network
    network.controlnet_cond_embedding, ear = torch.nn.Identity(), network.controlnet_cond_embedding
    for prefix, part in (("control.", network), ("ear.", ear)):
        for name, value in part.state_dict().items():
            assert torch.equal(value, average[prefix + name].half().float()), name
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["training"]["steps"] == 2
    assert manifest["training"]["hours"] == 0.1


def test_an_unlocked_decoder_comes_with_its_controlnet_alone(base, data, tmp_path):
    train(base, data, tmp_path / "run", kinds=("pose", "depth"), steps=2, unlock=True)
    control.export(base, tmp_path / "run", ["pose", "depth"], {})
    average = load_state(tmp_path / "run" / "control.pt")["average"]
    model = load(card_for_folder(base), "cpu")
    led = model.control("depth").unet
    assert led is model.control("pose").unet
    ours = model.unet.state_dict()
    changed = {name for name, value in led.state_dict().items() if not torch.equal(value, ours[name])}
    parts = {name.partition(".")[0] for name in changed}
    assert parts == {"mid_block", "up_blocks", "conv_norm_out", "conv_out"}
    for name in changed:
        assert torch.equal(led.state_dict()[name], average[f"unet.{name}"].half().float()), name
