"""Files of a model: whole ones give one fingerprint, broken, missing or added ones a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modules.models.files import LoadError, fingerprint, read_weights
from tests.tiny import write_tiny_family

WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the family to break."""
    return shutil.copytree(tiny_folder, tmp_path / "broken")


def test_the_same_weights_have_the_same_fingerprint(tiny_folder, tmp_path):
    again = write_tiny_family(tmp_path / "again")
    other = write_tiny_family(tmp_path / "other", seed=1)
    assert fingerprint(again) == fingerprint(tiny_folder)
    assert fingerprint(other) != fingerprint(tiny_folder)
    assert len(fingerprint(tiny_folder)) == 10
    assert int(fingerprint(tiny_folder), 16) >= 0


def test_a_flipped_bit_is_damage(broken):
    data = bytearray((broken / WEIGHTS).read_bytes())
    data[-100] ^= 1
    (broken / WEIGHTS).write_bytes(data)
    with pytest.raises(LoadError, match=r"\.safetensors is damaged: its checksum is wrong"):
        fingerprint(broken)


def test_half_a_file_is_told_apart_from_a_missing_one(broken):
    data = (broken / WEIGHTS).read_bytes()
    (broken / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(LoadError, match="half a file"):
        fingerprint(broken)
    (broken / WEIGHTS).unlink()
    with pytest.raises(LoadError, match="is missing"):
        fingerprint(broken)


def test_a_file_that_nobody_listed_is_refused(broken):
    shutil.copy(broken / WEIGHTS, broken / "unet" / "diffusion_pytorch_model-extra.safetensors")
    with pytest.raises(LoadError, match="not in the model's manifest"):
        fingerprint(broken)


def test_a_manifest_cannot_point_outside(broken):
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["files"]["../elsewhere.json"] = {"sha256": "0" * 64, "bytes": 1}
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="outside"):
        fingerprint(broken)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"files": [1]}', '{"files": {"a": {}}}', '{"files": {}}', '{"files": {"a": 1}}'],
)
def test_a_manifest_that_is_nonsense_is_damage(broken, content):
    (broken / "manifest.json").write_text(content)
    with pytest.raises(LoadError, match=r"damaged|not in the model's manifest"):
        fingerprint(broken)


def test_no_folder_is_said(tmp_path):
    with pytest.raises(LoadError, match="files are missing"):
        fingerprint(tmp_path / "nowhere")


def test_without_a_manifest_the_files_speak(broken):
    (broken / "manifest.json").unlink()
    before = fingerprint(broken)
    save_file({"a": torch.zeros(1)}, broken / "unet" / "more.safetensors")
    assert fingerprint(broken) != before


def test_cut_tensors_are_joined_in_order(tmp_path):
    whole = torch.arange(33.0).reshape(11, 3)
    pieces = {f"w::{i}": piece.clone() for i, piece in enumerate(whole.split(1))}
    save_file({name: piece for name, piece in pieces.items() if name != "w::10"}, tmp_path / "a.safetensors")
    save_file({"w::10": pieces["w::10"], "b": torch.ones(2)}, tmp_path / "b.safetensors")
    weights = read_weights(tmp_path)
    assert torch.equal(weights["w"], whole)
    assert set(weights) == {"w", "b"}
    (tmp_path / "b.safetensors").unlink()
    assert len(read_weights(tmp_path)["w"]) == 10


def test_a_lost_piece_is_noticed(tmp_path):
    save_file({"w::0": torch.zeros(1), "w::2": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(LoadError, match="lacks a piece of w"):
        read_weights(tmp_path)


def test_a_shard_that_the_index_names_must_be_there(broken):
    shards = sorted((broken / "unet").glob("*.safetensors"))
    assert len(shards) > 1  # as Pocket's are
    shards[0].unlink()
    with pytest.raises(LoadError, match="is missing"):
        read_weights(broken / "unet")


def test_pickles_are_refused_with_advice(tmp_path):
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(LoadError, match=r"only pickled weights.*save_pretrained"):
        read_weights(tmp_path)
    (tmp_path / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(LoadError, match=r"no \.safetensors file"):
        read_weights(tmp_path)


def test_a_damaged_safetensors_is_a_sentence(tmp_path):
    for content in (b"", b"\xff" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!"):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(LoadError, match="is damaged"):
            read_weights(tmp_path)


def test_the_full_precision_file_is_taken_of_two(tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    assert read_weights(tmp_path)["w"].item() == 1
