"""Revived runs go on from the shipped weights, and never over a run's own state."""

import json

import pytest
import torch

from modules.models.catalog import card_for_folder, read_catalogue
from modules.models.loading import load
from modules.training.checkpoint import load_state, resume_run
from modules.training.denoiser import Pocket
from modules.training.latents import load_encoder
from modules.training.revive import revive

BASE = read_catalogue()["pocket"].folder


def test_a_revived_run_begins_with_what_ships(tmp_path):
    seen = revive(BASE, tmp_path)
    shipped = load(card_for_folder(BASE), "cpu", "float32")
    network, average = Pocket(), Pocket()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    state = resume_run(tmp_path / "denoiser.pt", network, average, optimizer)
    assert state["step"] == 0
    assert not optimizer.state
    facts = json.loads((BASE / "manifest.json").read_text())["training"]
    assert state["samples"] == seen == facts["denoiser_samples"]
    for revived in (network, average):
        assert torch.equal(revived.class_tokens.weight, shipped.classes.weight)
        for name, weight in shipped.unet.state_dict().items():
            assert torch.equal(weight, revived.unet.state_dict()[name]), name
    _, factor = load_encoder(tmp_path)
    assert factor == shipped.autoencoder.config["scaling_factor"]


def test_a_run_with_a_state_of_its_own_is_left_alone(tmp_path):
    (tmp_path / "denoiser.pt").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="go on from it"):
        revive(BASE, tmp_path)
    assert (tmp_path / "denoiser.pt").read_bytes() == b"mine"
    assert load_state(tmp_path / "autoencoder.pt") is None
