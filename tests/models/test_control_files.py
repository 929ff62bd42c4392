"""ControlNets in one file, of either layout: told from other files, the folder's weights, or a sentence."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from modules.engine.generation import generate
from modules.models.catalog import CatalogueError, card_for_folder, controls_in
from modules.models.files import LoadError
from modules.models.loading import load
from modules.tasks import Controlled
from tests.originals import write_original_control
from tests.tiny import write_tiny_controlnet, write_tiny_sdxl, write_tiny_stable_diffusion

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose ControlNet for poses is a folder; and that folder."""
    folder = write_tiny_stable_diffusion(tmp_path_factory.mktemp("files") / "sd")
    write_tiny_controlnet(folder, "pose")
    return folder


def as_diffusers(source, file):
    save_file(load_file(source / "diffusion_pytorch_model.safetensors"), file)


LAYOUTS = {
    "canny.safetensors": write_original_control,
    "control_v11f1p_sd15_depth.safetensors": lambda source, file: write_original_control(source, file, ""),
    "control_v11p_sd15_seg_fp16.safetensors": as_diffusers,
}


def test_every_layout_holds_the_folder_s_weights_to_the_last_bit(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "sd")
    for name, write in LAYOUTS.items():
        write(place / "controlnet" / "pose", place / "controlnet" / name)
    card = card_for_folder(place)
    assert sorted(card.controls) == ["canny", "depth", "pose", "segment"]
    model = load(card, "cpu")
    whole = model.control("pose").network
    task = Controlled(prompt="a cat", control_type="pose", control_image=PICTURE, detect="never", steps=1,
                      seed=1, width=64, height=64, model="sd")  # fmt: skip
    first, _ = generate(model, task)
    for kind in ("canny", "depth", "segment"):
        network = model.control(kind).network
        assert network.state_dict().keys() == whole.state_dict().keys()
        assert all(torch.equal(value, whole.state_dict()[k]) for k, value in network.state_dict().items())
        step, result = generate(model, dataclasses.replace(task, control_type=kind))
        assert torch.equal(step.latents, first.latents)
        assert result.info["control_hash"] == model.control(kind).hash != model.control("pose").hash


def test_a_file_serves_what_its_name_says(tmp_path):
    place = tmp_path / "controlnet"
    place.mkdir()
    names = "control_v11p_sd15_openpose depth-canny diffusion_pytorch_model lineart_anime.fp16"
    for name in names.split():
        (place / f"{name}.safetensors").touch()
    found = {kind: path.stem for kind, path in controls_in(tmp_path).items()}
    assert found == {"pose": "control_v11p_sd15_openpose", "depth": "depth-canny", "canny": "depth-canny",
                     "lineart": "lineart_anime.fp16"}  # fmt: skip


def test_a_controlnet_of_another_family_is_a_sentence(folder, tmp_path):
    sdxl = write_tiny_sdxl(tmp_path / "sdxl")
    write_original_control(folder / "controlnet" / "pose", _place(sdxl) / "pose.safetensors")
    with pytest.raises(LoadError, match="does not fit sdxl: its text width is 32, the model's 64"):
        load(card_for_folder(sdxl), "cpu").control("pose")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("lora_controlnet", "it is a Control-LoRA"),
        ("body.0.in_conv.weight", "it is a T2I-Adapter"),
        ("lora_unet_down.lora_down.weight", "it is a LoRA"),
        ("x", "it is something else"),
    ],
)
def test_what_is_no_controlnet_is_told(tensor, words, folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "sd")
    save_file({tensor: torch.zeros(2)}, place / "controlnet" / "canny.safetensors")
    with pytest.raises(LoadError, match=f"is no ControlNet: {words}"):
        load(card_for_folder(place), "cpu").control("canny")


def test_pickles_and_remains_are_told(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "sd")
    (place / "controlnet" / "control_sd15_depth.pth").write_bytes(b"pickle")
    save_file({"zero_convs.0.0.weight": torch.zeros(2)}, place / "controlnet" / "canny.safetensors")
    model = load(card_for_folder(place), "cpu")
    with pytest.raises(LoadError, match=r"control_sd15_depth\.pth is a pickled checkpoint"):
        model.control("depth")
    with pytest.raises(LoadError, match="is no whole ControlNet"):
        model.control("canny")
    as_diffusers(place / "controlnet" / "pose", place / "controlnet" / "depth.safetensors")
    assert card_for_folder(place).controls["depth"].suffix == ".safetensors"


def test_a_model_of_one_file_has_its_controlnets_in_the_folder_of_its_name(folder, tmp_path):
    tensors = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x",
               "cond_stage_model.transformer.x")  # fmt: skip
    save_file({name: torch.zeros(8, 4, 3, 3) for name in tensors}, tmp_path / "m.safetensors")
    assert "controlnet" not in card_for_folder(tmp_path / "m.safetensors").tasks
    (tmp_path / "m").mkdir()
    as_diffusers(folder / "controlnet" / "pose", _place(tmp_path / "m") / "pose.safetensors")
    card = card_for_folder(tmp_path / "m.safetensors")
    assert card.controls == {"pose": tmp_path / "m" / "controlnet" / "pose.safetensors"}
    assert card.tasks[-1] == "controlnet"


def test_half_a_file_is_told_and_the_model_stays(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "sd")
    file = write_original_control(place / "controlnet" / "pose", place / "controlnet" / "canny.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    model = load(card_for_folder(place), "cpu")
    with pytest.raises(LoadError, match="is half a file"):
        model.control("canny")
    assert model.control("pose").network is not None


def test_chosen_as_a_model_it_is_told_where_it_belongs(folder, tmp_path):
    for start in ("control_model.", ""):
        file = write_original_control(folder / "controlnet" / "pose", tmp_path / "m.safetensors", start)
        with pytest.raises(
            CatalogueError, match="it is a ControlNet, which belongs into a model's own folder"
        ):
            card_for_folder(file)


def _place(folder):
    (folder / "controlnet").mkdir()
    return folder / "controlnet"
