"""What a flow model's card alone says: its samplers, its levels by the picture's size, no weights read."""

import json
from pathlib import Path

import numpy as np
import pytest

from modules.engine.studio import Engine
from modules.settings import Settings
from modules.tasks import TaskError, TextToImage
from modules.ui import snr_panel

SCHEDULER = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("models") / "dev"
    for name, values in {
        "model_index.json": {"_class_name": "FluxPipeline"},
        "scheduler/scheduler_config.json": SCHEDULER,
        "transformer/config.json": {"guidance_embeds": True},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values))
    return Engine(Settings(model=str(folder), device="cpu"))


def test_only_flow_samplers_are_offered_for_a_flow(engine):
    assert engine.samplers() == ["Euler", "Heun", "DPM++ 2M", "UniPC"]
    assert engine.spacings("Euler") == ["default", "karras", "exponential", "beta"]
    assert "DDIM" in engine.samplers("pocket")
    assert (engine.default(TextToImage, "sampler"), engine.default(TextToImage, "steps")) == ("Euler", 28)
    with pytest.raises(TaskError, match=r"DDIM cannot walk dev's noise; it has Euler, Heun, DPM\+\+ 2M"):
        engine.check(TextToImage(model="dev", sampler="DDIM", schedule="default"))
    with pytest.raises(TaskError, match="Euler cannot walk the ays schedule; it has default, karras"):
        engine.check(TextToImage(model="dev", sampler="Euler", schedule="ays"))


def test_the_curve_is_the_flow_s_and_shifts_with_the_size(engine):
    curve = engine.snr_curve("Euler", "default", 8)
    s = np.array(curve["train"]["t"]) / 1000
    np.testing.assert_allclose(curve["train"]["snr"], ((1 - s) / s) ** 2, rtol=1e-9, atol=1e-6)
    s = np.array(curve["visited"]["t"]) / 1000
    np.testing.assert_allclose(curve["visited"]["snr"], ((1 - s) / s) ** 2, rtol=1e-9, atol=1e-6)
    small = engine.snr_curve("Euler", "default", 8, width=256, height=256)["visited"]
    assert curve["visited"] == engine.snr_curve("Euler", "default", 8, width=1024, height=1024)["visited"]
    assert all(np.array(small["t"][1:]) < np.array(curve["visited"]["t"][1:]))  # less noise when small
    json.dumps(curve, allow_nan=False)
    with pytest.raises(TaskError, match="width is 7"):
        engine.snr_curve("Euler", "default", 8, width=7)


@pytest.mark.parametrize(
    ("model", "second"),
    [
        ("flux-schnell", 0.75),
        ("sd3-medium", 3 * 2 / 3 / (1 + 2 * 2 / 3)),  # of its grid, shifted once more
        ("flux-dev", np.exp(1.15) * 3 / (np.exp(1.15) * 3 + 1)),
        ("qwen-image", None),
        ("z-image-turbo", 3 * 0.75 / (1 + 2 * 0.75)),
    ],
)
def test_a_card_tells_the_shift_before_the_model_is_here(model, second, engine):
    """At 1024 pixels and four steps; Esser et al. 2024, eq. 23, with each model's published shift."""
    assert model not in engine.catalog
    visited = np.array(engine.snr_curve("Euler", "default", 4, model)["visited"]["t"]) / 1000
    assert visited[0] == 1
    if second is None:  # stretched so that it ends at 0.02, by a shift for 4096 of 8192 tokens
        shift = np.exp(0.5 + 3840 * 0.4 / 7936)
        second, last = (shift * s / (1 + (shift - 1) * s) for s in (0.75, 0.25))
        second = 1 - (1 - second) * 0.98 / (1 - last)
    assert visited[1] == pytest.approx(second, rel=2e-3)
    with pytest.raises(TaskError, match="is not on this machine"):
        engine.check(TextToImage(model=model))


def test_the_panel_offers_what_the_model_can_have(engine):
    at = snr_panel.Place(1.0, "dev", 512, 512)
    message, spacing, _, sampler, compare = snr_panel.another_model(
        engine, "DDIM", "default", 20, "DDIM, default", at
    )
    assert (sampler["value"], sampler["choices"]) == ("Euler", engine.samplers("dev"))
    assert spacing["choices"] == engine.spacings("Euler", "dev")
    assert (compare["value"], len(compare["choices"])) == (snr_panel.NOTHING, 17)
    levels = engine.snr_curve("Euler", "default", 20, "dev", 1.0, 512, 512)["visited"]
    assert message["plan"]["snr"] == levels["snr"]
    assert message["refusal"] is None
    *_, sampler, compare = snr_panel.another_model(
        engine, "Euler", "default", 20, "UniPC, beta", snr_panel.Place(1.0, "pocket", 256, 256)
    )
    assert (sampler["value"], compare["value"]) == ("Euler", "UniPC, beta")
