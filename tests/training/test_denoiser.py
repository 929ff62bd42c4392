"""Training the denoiser: a resumed run equals an uninterrupted one, conditions are dropped as promised."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from modules.diffusion.schedule import STABLE_DIFFUSION
from modules.training import denoiser
from modules.training.checkpoint import load_state, save_state, update_average
from modules.training.toyland.emoji import CLASSES

TINY = {
    "block_out_channels": (16, 16, 32),
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "norm_num_groups": 8,
}


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "latents").mkdir()
    np.savez(
        tmp_path / "latents" / "00000.npz",
        latents=rng.normal(size=(6, 8, 16, 16)).astype(np.float16),
        text=rng.normal(size=(6, 2, 32, 8)).astype(np.float16),
        classes=np.array([0, 1, -1, 3, -1, 5], np.int16),
        plain=np.array([True, False, False, True, False, True]),
    )
    np.savez(
        tmp_path / "words.npz",
        empty=np.zeros((1, 32, 8), np.float32),
        classes=rng.normal(size=(len(CLASSES) + 1, 8)).astype(np.float32),
    )
    return tmp_path


def train(run, steps):
    # The decay is a share of the whole, so a run is cut short by its checkpoint and not by fewer steps.
    denoiser.train(run, steps, batch_size=2, peak=1e-3, decay=0.25, **TINY)


def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    for name in ("latents", "words.npz"):
        os.symlink(run / name, whole / name)
    train(whole, 8)
    # What the run left behind as it began to decay, after 6 of its 8 steps, is where another one goes on.
    os.rename(whole / "denoiser-undecayed.pt", run / "denoiser.pt")
    assert load_state(run / "denoiser.pt")["step"] == 6
    train(run, 8)
    straight, resumed = load_state(whole / "denoiser.pt"), load_state(run / "denoiser.pt")
    assert straight["step"] == resumed["step"] == 8
    assert straight["samples"] == resumed["samples"] == 16
    for part in ("network", "average"):
        for name, value in straight[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)


def write_forever(path, started):
    state = {"weights": torch.zeros(2_000_000)}
    for step in range(1_000_000):
        state["step"] = step
        state["weights"].fill_(step)
        save_state(path, state)
        started.set()


def test_a_killed_run_leaves_the_last_checkpoint_whole(tmp_path):
    path = tmp_path / "state.pt"
    for delay in (0.0, 0.01, 0.05):
        context = multiprocessing.get_context("spawn")
        started = context.Event()
        process = context.Process(target=write_forever, args=(path, started))
        process.start()
        assert started.wait(120)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        state = load_state(path)
        assert (state["weights"] == state["step"]).all()


def test_the_average_follows_the_weights():
    average, network = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before, now = average.weight.clone(), network.weight.clone()
    update_average(average, network, 0.9)
    torch.testing.assert_close(average.weight, 0.9 * before + 0.1 * now)


def test_min_snr_weights_are_one_in_noise_and_fall_with_snr():
    weights = denoiser.min_snr_weight(torch.tensor([0.5, 10 / 11], dtype=torch.float64))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5], dtype=torch.float64))  # SNR 1, SNR 10
    grid = denoiser.min_snr_weight(torch.tensor(STABLE_DIFFUSION.alphas_cumprod))
    assert (grid.diff() >= 0).all()
    assert grid[-1] == 1


def test_every_mix_of_text_and_class_is_seen():
    rng = np.random.default_rng(1)
    n = 20_000
    text, empty = torch.ones(n, 1, 1), torch.zeros(1, 1, 1)
    known = torch.arange(n) % 2 == 0
    classes, plain = torch.where(known, 7, -1), known
    told, token = denoiser.drop_conditions(text, classes, plain, empty, rng)
    worded, classed = told[:, 0, 0] == 1, token == 7
    assert not (classed & ~known).any()
    assert set(token.unique().tolist()) == {7, len(CLASSES)}
    share = {
        (w, c): ((worded == w) & (classed == c) & known).sum().item() / known.sum().item()
        for w in (True, False) for c in (True, False)
    }  # fmt: skip
    assert share[True, True] == pytest.approx(0.75 * 0.55, abs=0.02)
    assert share[True, False] == pytest.approx(0.75 * 0.45, abs=0.02)
    assert share[False, True] == pytest.approx(0.15 + 0.1 * 0.55, abs=0.02)
    assert share[False, False] == pytest.approx(0.1 * 0.45, abs=0.02)
    assert (worded & ~known).sum() / (~known).sum() == pytest.approx(0.9, abs=0.02)


def test_a_class_stands_alone_only_for_plain_pictures():
    n = 2_000
    text, empty, classes = torch.ones(n, 1, 1), torch.zeros(1, 1, 1), torch.full((n,), 7)
    told, token = denoiser.drop_conditions(
        text, classes, torch.zeros(n, dtype=torch.bool), empty, np.random.default_rng(1)
    )
    worded, classed = told[:, 0, 0] == 1, token == 7
    assert (worded & classed).any()
    assert (~worded & ~classed).any()
    assert not (~worded & classed).any()
