"""Single checkpoint files: recognised, the same weights as their folder's, and never half loaded."""

import json
import struct

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from modules.engine.studio import Engine
from modules.models.catalog import CatalogueError, card_for_folder
from modules.models.clip_words import marks, vocabulary
from modules.models.files import LoadError
from modules.models.loading import load
from modules.models.originals import CONFIGS
from modules.models.tokens import count_tokens
from modules.settings import Settings
from modules.tasks import TextToImage
from tests.originals import write_original
from tests.tiny import write_tiny_sdxl, write_tiny_stable_diffusion

WRITERS = {
    "sd1": lambda folder: write_tiny_stable_diffusion(folder, vocab_size=49408),
    "sd2": lambda folder: write_tiny_stable_diffusion(folder, "v_prediction", vocab_size=49408),
    "sdxl": lambda folder: write_tiny_sdxl(folder, vocab_size=49408),
}


@pytest.fixture(scope="module", params=WRITERS)
def pair(request, tmp_path_factory):
    """A tiny pipeline's folder, and the same as one file, whose words are CLIP's own."""
    place = tmp_path_factory.mktemp(request.param)
    folder = WRITERS[request.param](place / "folder")
    return request.param, folder, write_original(folder, place / "model.safetensors")


@pytest.fixture
def small(tmp_path):
    """A safetensors file that is whole."""
    save_file({"a": torch.zeros(3, 4)}, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def networks(model):
    texts = [model.text] if hasattr(model.text, "network") else [model.text.first, model.text.second]
    return [model.unet, model.autoencoder, *(text.network for text in texts)]


def test_a_file_holds_the_weights_of_the_folder_to_the_last_bit(pair):
    layout, folder, file = pair
    card = card_for_folder(file)
    assert (card.title, card.width) == ("model", 128)
    assert card.family == ("stable-diffusion-xl" if layout == "sdxl" else "stable-diffusion")
    kind = "v_prediction" if layout == "sd2" else "epsilon"
    assert card.scheduler_config()["prediction_type"] == kind
    one, other = load(card, "cpu"), load(card_for_folder(folder), "cpu")
    for ours, theirs in zip(networks(one), networks(other), strict=True):
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert one.hash != other.hash
    assert one.noise_schedule == other.noise_schedule
    assert count_tokens(card, "a red astronaut").used == 3  # whole words of the real vocabulary


def test_diffusers_reads_the_same_out_of_the_file(pair):
    _, _, file = pair
    configs = str(file.with_suffix(""))
    for name, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
        theirs = kind.from_single_file(file, config=configs, subfolder=name, local_files_only=True)
        model = load(card_for_folder(file), "cpu")
        ours = model.unet if name == "unet" else model.autoencoder
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_the_studio_opens_with_a_file_and_paints(pair):
    _, _, file = pair
    engine = Engine(Settings(model=str(file), device="cpu"))
    task = TextToImage(prompt="a red cat", steps=1, width=64, height=64, model=engine.default_model)
    *_, result = engine.run(task)
    assert result.info["model"] == "model"
    assert result.images[0].size == (64, 64)


@pytest.mark.parametrize(
    ("channels", "tasks"), [(9, ("inpaint",)), (8, ("instruct_edit",)), (4, ("text_to_image",))]
)
def test_channels_and_layout_say_what_a_file_is_for(channels, tasks, tmp_path):
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3),
               "first_stage_model.encoder.conv_in.weight": torch.zeros(1),
               "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(1)}  # fmt: skip
    save_file(tensors, tmp_path / "m.safetensors")
    card = card_for_folder(tmp_path / "m.safetensors")
    assert card.tasks[:1] == tasks
    assert card.configs == CONFIGS / "sd1"
    assert (card.width, card.part("unet")) == (512, CONFIGS / "sd1" / "unet")
    with pytest.raises(LoadError, match="do not fit its config"):
        load(card, "cpu")


def sd2(path, notes=None, **more):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
               "first_stage_model.x": torch.zeros(1), "cond_stage_model.model.x": torch.zeros(1), **more},
              path, notes)  # fmt: skip
    return card_for_folder(path)


def test_what_a_file_predicts_is_told_by_its_notes_its_marks_or_a_yaml_beside_it(tmp_path):
    plain = sd2(tmp_path / "a.safetensors")
    assert (plain.scheduler_config()["prediction_type"], plain.width) == ("v_prediction", 768)
    noted = sd2(tmp_path / "b.safetensors", {"modelspec.prediction_type": "epsilon"})
    assert (noted.scheduler_config()["prediction_type"], noted.width) == ("epsilon", 512)
    (tmp_path / "c.yaml").write_text('model:\n  params:\n    parameterization: "eps"\n')
    assert sd2(tmp_path / "c.safetensors").scheduler_config()["prediction_type"] == "epsilon"
    marked = sd2(tmp_path / "d.safetensors", v_pred=torch.zeros(1), ztsnr=torch.zeros(1))
    assert marked.scheduler_config()["rescale_betas_zero_snr"]
    assert marked.scheduler_config()["prediction_type"] == "v_prediction"


def test_half_a_file_a_long_one_a_missing_one_and_nonsense_are_told_apart(small, tmp_path):
    whole = small.read_bytes()
    for data, words in (
        (whole[:-5], "is half a file: it has"),
        (whole[:30], "is half a file: it ends within its own header"),
        (whole + b"more", "is damaged: it has"),
        (b"<html>not found</html>", "is no safetensors file"),
        (b"", "is no safetensors file"),
        (struct.pack("<Q", 5) + b"[1,2]", "is damaged: its header"),
    ):
        small.write_bytes(data)
        with pytest.raises(CatalogueError, match=words):
            card_for_folder(small)
    with pytest.raises(CatalogueError, match="is missing"):
        card_for_folder(tmp_path / "nowhere.safetensors")


def test_a_file_that_is_cut_after_it_was_met_never_half_loads(tmp_path):
    card = sd2(tmp_path / "m.safetensors")
    card.folder.write_bytes(card.folder.read_bytes()[:-1])
    with pytest.raises(LoadError, match="is half a file"):
        load(card, "cpu")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
def test_pickles_are_refused_with_a_way_to_convert_them(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CatalogueError, match="pickled checkpoint") as refusal:
        card_for_folder(tmp_path / name)
    command = str(refusal.value).split('python -c "')[1].removesuffix('"')
    torch.save({"state_dict": {"w": torch.ones(2), "step": 3}}, tmp_path / name)
    source = command.replace(f"'{name}'", repr(str(tmp_path / name)))
    exec(source.replace("'model.safetensors'", repr(str(tmp_path / "model.safetensors"))), {})
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], torch.ones(2))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("lora_unet_down.lora_down.weight", "it is a LoRA"),
        ("control_model.input_blocks.0.0.weight", "it is a ControlNet"),
        ("conditioner.embedders.0.model.ln_final.weight", "SDXL refiner"),
        ("double_blocks.0.img_attn.qkv.weight", "FLUX transformer"),
        ("model.diffusion_model.input_blocks.0.0.weight", "U-Net without its text encoder"),
        ("decoder.conv_in.weight", "an autoencoder alone"),
        ("x", "no Stable Diffusion checkpoint"),
    ],
)
def test_other_files_are_called_by_their_names(tensor, words, tmp_path):
    save_file({tensor: torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(CatalogueError, match=words):
        card_for_folder(tmp_path / "m.safetensors")


def test_the_shipped_vocabulary_is_clips():
    ids, merges = vocabulary(CONFIGS / "sd1" / "tokenizer")
    assert (len(ids), len(merges)) == (49408, 48894)
    known = {"a</w>": 320, "cat</w>": 2368, "!": 0, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert {piece: ids[piece] for piece in known} == known
    assert [marks(CONFIGS / name / "tokenizer")["pad_token"] for name in ("sd1", "sd2")] == [
        "<|endoftext|>",
        "!",
    ]
    words = CLIPTokenizer(ids, merges, **marks(CONFIGS / "sd1" / "tokenizer"))
    assert words("a photo of an astronaut riding a horse")["input_ids"] == [
        49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 49407
    ]  # fmt: skip


def test_the_shipped_configurations_are_of_the_known_sizes():
    known = {"sd1": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
    for layout, count in known.items():
        config = json.loads((CONFIGS / layout / "unet" / "config.json").read_text())
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel.from_config(config)
        assert sum(value.numel() for value in unet.parameters()) == count
