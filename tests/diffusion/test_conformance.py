"""Every sampler over every spacing brings the exact Gaussian denoiser's samples to their true spread."""

import pytest

from modules.diffusion import conformance
from modules.diffusion.schedule import SAMPLERS, spacings_for

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS of diffusers
PAIRS = [(sampler, spacing) for sampler in SAMPLERS for spacing in spacings_for(sampler)]


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_the_spread_goes_to_the_truth_as_steps_grow(sampler, spacing):
    most = min(100, SAMPLERS[sampler].max_steps)
    draws = {"DPM++ SDE": 4096}.get(sampler, 16384 if SAMPLERS[sampler].stochastic else 64)
    few, many = (conformance.outcome(sampler, spacing, steps, draws=draws) for steps in (most // 4, most))
    chance = 4 * conformance.WORLD.std / (2 * draws) ** 0.5 if SAMPLERS[sampler].stochastic else 0
    assert many.error < max(0.6 * few.error, 0.005) + chance
    assert many.error < (0.06 if sampler == "TCD" else 0.03) + chance


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [
        ("Heun", "karras"),
        ("DPM2", "karras"),
        ("DPM++ 2M", "karras"),
        ("UniPC", "karras"),
        ("PNDM", "default"),
    ],
)
def test_the_good_ones_are_within_a_hundredth_at_thirty_steps(sampler, spacing):
    assert conformance.outcome(sampler, spacing, 30, draws=512).error < 0.01


def test_the_draws_are_unit_normals_without_chance():
    draws = conformance.even_normals(1000).double()
    assert draws.square().mean().item() == pytest.approx(1, abs=1e-6)
    assert draws.mean().item() == pytest.approx(0, abs=1e-6)
    assert (draws.abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=2e-3)


def test_the_command_prints_a_table_and_draws(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    few = {name: SAMPLERS[name] for name in ("DDIM", "Heun", "LCM")}
    monkeypatch.setattr(conformance, "SAMPLERS", few)
    conformance.main(["--steps", "5", "60", "--draws", "64", "--out", str(tmp_path / "plot.svg")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["sampler", "spacing", "5", "60"]
    assert len(lines) == 1 + sum(len(spacings_for(name)) for name in few)
    assert lines[-1].split()[0:2] == ["LCM", "zero_snr"]
    assert lines[-1].split()[-1] == "-"
    assert (tmp_path / "plot.svg").read_text().lstrip().startswith("<?xml")
