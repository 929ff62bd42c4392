"""The panel's messages hold the engine's own levels, and offer only what is possible."""

import json

import numpy as np
import pytest

from modules.ui import snr_panel
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine():
    return FakeEngine()


def test_the_plan_is_what_the_engine_would_visit_to_the_last_digit(engine):
    message = snr_panel.curve_message(engine, "Euler", "karras", 12)
    visited = engine.snr_curve("Euler", "karras", 12)["visited"]
    for name in snr_panel.LEVEL_KEYS:
        assert message["plan"][name] == visited[name]
    np.testing.assert_allclose(message["plan"]["alphas_cumprod"], np.square(visited["alpha"]), rtol=1e-15)


def test_the_training_curve_is_thinned_but_keeps_its_ends(engine):
    train = snr_panel.curve_message(engine, "Euler", "karras", 12)["train"]
    assert len(train["t"]) <= snr_panel.CURVE_POINTS
    assert (train["t"][0], train["t"][-1], train["T"]) == (0, 999, 1000)
    assert train["snr"][-1] == pytest.approx(0.0047, abs=5e-5)


def test_no_signal_at_all_is_null_because_json_has_no_infinity():
    levels = {"t": [999.0], "alpha": [0.0], "sigma": [1.0], "snr": [0.0], "log_snr": [-np.inf]}
    message = snr_panel.levels_message(levels, "zero terminal SNR")
    assert json.loads(json.dumps(message, allow_nan=False))["log_snr"] == [None]


def test_a_sampler_without_the_spacing_gets_one_that_it_has(engine):
    message, spacing, steps = snr_panel.changed(engine, "DDPM", "karras", 20, snr_panel.NOTHING)
    assert spacing["value"] == "default"
    assert spacing["choices"] == ["default", "trailing"]
    assert steps["maximum"] == 1000
    assert "DDPM, default, 20 steps" in message["plan"]["label"]


def test_steps_beyond_a_samplers_reach_come_back_into_it(engine):
    _, _, steps = snr_panel.changed(engine, "Euler", "karras", 1000, snr_panel.NOTHING)
    assert (steps["maximum"], steps["value"]) == (100, 100)
    _, _, steps = snr_panel.changed(engine, "LCM", "default", 80, snr_panel.NOTHING)
    assert (steps["maximum"], steps["value"]) == (50, 50)


def test_a_late_start_shows_the_cut(engine):
    message, *_ = snr_panel.changed(engine, "Euler", "karras", 10, snr_panel.NOTHING, snr_panel.Place(0.3))
    assert message["plan"]["t"] == engine.snr_curve("Euler", "karras", 10)["visited"]["t"][-3:]
    assert message["plan"]["label"].endswith("begun at strength 0.3")


def test_a_second_sampler_is_laid_over_the_first(engine):
    message = snr_panel.curve_message(engine, "Euler", "karras", 5, "DDIM, zero_snr")
    assert message["compare"]["t"] == engine.snr_curve("DDIM", "zero_snr", 5)["visited"]["t"]
    assert snr_panel.curve_message(engine, "Euler", "karras", 5, None)["compare"] is None


def test_an_impossible_pair_is_told_in_words(engine):
    message = snr_panel.curve_message(engine, "DDPM", "karras", 5)
    assert "karras" in message["refusal"]
    assert "plan" not in message


def test_what_fits_is_left_to_whoever_changes_it_meanwhile(engine):
    fits = snr_panel.fitting(engine, "Euler", "karras", 20, None)
    spacing, steps = snr_panel.allowed(fits, "karras", 20)
    assert "value" not in spacing
    assert "value" not in steps
    spacing, steps = snr_panel.allowed(snr_panel.fitting(engine, "DDPM", "karras", 0, None), "karras", 0)
    assert spacing["value"] == "default"
    assert steps["value"] == 1
