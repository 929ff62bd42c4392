"""A card that names another's folder takes from it what it lacks, and its hash covers both."""

import json
import shutil

import pytest
import torch

from modules.engine.generation import generate
from modules.models.catalog import card_for_folder, read_catalogue
from modules.models.files import LoadError, fingerprint_of
from modules.models.loading import load
from modules.models.tokens import count_tokens
from modules.tasks import ClassConditional
from tests.tiny import write_manifest, write_tiny_controlnet, write_tiny_family


@pytest.fixture
def figures(tiny_folder, tmp_path):
    """A second model with a U-Net and one ControlNet of its own, and a manifest of these alone."""
    folder = tmp_path / "figures"
    shutil.copytree(write_tiny_family(tmp_path / "whole", seed=1) / "unet", folder / "unet")
    write_tiny_controlnet(tmp_path / "whole", "maps").rename(folder / "controlnet")
    write_manifest(folder)
    return folder


def test_what_a_folder_lacks_comes_from_the_one_that_it_shares(figures, tiny_folder):
    card = card_for_folder(figures, shares=tiny_folder)
    assert (card.family, card.classes()[1]) == ("pocket", "cat")
    assert card.part("unet") == figures / "unet"
    assert card.part("vae") == tiny_folder / "vae"
    assert card.scheduler_config()["prediction_type"] == "epsilon"
    assert count_tokens(card, "a red cat").used == 3
    ours, theirs = load(card, "cpu"), load(card_for_folder(tiny_folder), "cpu")
    assert torch.equal(ours.classes("cat"), theirs.classes("cat"))
    assert not torch.equal(ours.unet.conv_in.weight, theirs.unet.conv_in.weight)
    assert ours.hash != theirs.hash
    *_, result = generate(ours, ClassConditional(class_name="cat", steps=1, width=128, height=128))
    assert result.info["model_hash"] == ours.hash


def test_the_hash_covers_both_and_skips_what_is_replaced(figures, tiny_folder, tmp_path):
    shared = shutil.copytree(tiny_folder, tmp_path / "shared")
    card = card_for_folder(figures, shares=shared)
    before = fingerprint_of(card)
    shutil.rmtree(shared / "unet")  # which is not read
    assert fingerprint_of(card) == before
    data = bytearray((path := shared / "text_encoder" / "a.safetensors").read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(LoadError, match="checksum is wrong"):
        fingerprint_of(card)
    (shared / "manifest.json").unlink()
    assert fingerprint_of(card) != before


def test_one_controlnet_may_serve_several_types(figures, tiny_folder, tmp_path):
    maps = str(figures / "controlnet")
    entry = {"title": "X", "family": "pocket", "source": str(figures), "shares": str(tiny_folder)}
    entry |= {"tasks": ["text_to_image"], "controls": {"pose": maps, "depth": maps}}
    (tmp_path / "models.yaml").write_text(json.dumps({"x": entry}))
    card = read_catalogue(tmp_path / "models.yaml")["x"]
    assert [*card.controls] == ["pose", "depth"]
    model = load(card, "cpu")
    assert model.control("pose") is model.control("depth")
