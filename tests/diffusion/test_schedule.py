"""Which pairs exist, how many calls they make, and at which levels, with no network in sight."""

import importlib
import inspect
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from modules.diffusion.schedule import (
    BETAS,
    SAMPLERS,
    SPACINGS,
    STABLE_DIFFUSION,
    NoiseSchedule,
    check,
    make_scheduler,
    spacings_for,
    training_levels,
    visited_levels,
)

PAIRS = [(sampler, spacing) for sampler in SAMPLERS for spacing in spacings_for(sampler)]
NAMES = (
    "DDPM, DDIM, PNDM, LMS, Euler, Euler a, Heun, DPM2, DPM2 a, DPM++ 2M, DPM++ 2M SDE, DPM++ 3M SDE, "
    "DPM++ SDE, DPM++ 2S, UniPC, DEIS, SA-Solver, LCM, TCD"
)


def calls(sampler: str, steps: int) -> int:
    if sampler == "PNDM":
        return steps + 1 if steps > 1 else 1
    return 2 * steps - 1 if SAMPLERS[sampler].calls_per_step == 2 else steps


def scheduler_class(sampler: str) -> type:
    home, _, name = SAMPLERS[sampler].scheduler.rpartition(".")
    return getattr(importlib.import_module(home), name)


def test_the_names_are_the_promised_ones():
    assert ", ".join(SAMPLERS) == NAMES
    promised = ["default", "trailing", "karras", "exponential", "beta", "lu", "ays", "zero_snr"]
    assert list(SPACINGS) == promised
    assert all(spacings_for(sampler)[0] == "default" for sampler in SAMPLERS)
    for record in [*SAMPLERS.values(), *SPACINGS.values()]:
        assert record.note.endswith(".")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_offers_the_spacings_that_its_class_has(sampler):
    parameters = inspect.signature(scheduler_class(sampler).__init__).parameters
    settings = inspect.signature(scheduler_class(sampler).set_timesteps).parameters
    needs = {
        "trailing": "timestep_spacing",
        "karras": "use_karras_sigmas",
        "exponential": "use_exponential_sigmas",
        "beta": "use_beta_sigmas",
        "lu": "use_lu_lambdas",
        "zero_snr": "rescale_betas_zero_snr",
    }
    has = {spacing for spacing, need in needs.items() if need in parameters}
    if "sigmas" in parameters or (
        {"timesteps", "sigmas"} & set(settings) and hasattr(scheduler_class(sampler), "sigmas")
    ):
        has.add("ays")
    if sampler in ("LCM", "TCD"):
        has.discard("trailing")  # their set_timesteps never reads it
    assert set(spacings_for(sampler)) - {"default", "ays"} == has - {"ays"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Eulr", "karras", 20), "sampler is 'Eulr', which is unknown; choose one of DDPM, DDIM"),
        (("Euler", "carras", 20), "schedule is 'carras', which is unknown; choose one of default, trailing"),
        (
            ("Euler a", "karras", 20),
            "Euler a cannot walk the karras schedule; it has default, trailing, zero_snr",
        ),
        (("DDIM", "default", 0), "steps is 0, but DDIM takes a whole number from 1 to 1000"),
        (("LCM", "default", 51), "steps is 51, but LCM takes a whole number from 1 to 50"),
        (("DPM++ 2S", "default", 1000), "DPM\\+\\+ 2S takes a whole number from 1 to 999"),
        (("DDIM", "default", 2.5), "steps is 2.5"),
        (("DDIM", "default", True), "steps is True"),
        (("DDIM", "default", 5, STABLE_DIFFUSION, 0.0), "strength is 0.0; it must be above 0"),
        (("DDIM", "default", 5, STABLE_DIFFUSION, float("nan")), "strength is nan"),
        (("Euler", "ays", 5, NoiseSchedule.from_betas("cosine")), "fits Stable Diffusion's noise only"),
    ],
)
def test_what_cannot_be_walked_is_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        check(*arguments)
    with pytest.raises(ValueError, match=words):
        visited_levels(*arguments)


def test_every_pair_that_is_not_offered_is_refused():
    for sampler, spacing in itertools.product(SAMPLERS, SPACINGS):
        if (sampler, spacing) not in PAIRS:
            with pytest.raises(ValueError, match="cannot walk"):
                make_scheduler(sampler, spacing)


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_the_walk_has_its_calls_and_goes_from_noise_to_picture_at_any_number_of_steps(sampler, spacing):
    even = spacing in ("default", "trailing", "zero_snr", "ays")
    for steps in (1, 2, 33, 61, 600, 999, 1000) if even else (1, 2, 33):
        if steps > SAMPLERS[sampler].max_steps:
            continue
        levels = visited_levels(sampler, spacing, steps)
        assert len(levels) == calls(sampler, steps)
        assert levels.t.min() >= 0
        assert levels.t.max() <= 999
        np.testing.assert_allclose(levels.alpha**2 + levels.sigma**2, 1, rtol=1e-12)
        assert np.isfinite(levels.log_snr).all()
        rising = np.diff(levels.log_snr[:: SAMPLERS[sampler].calls_per_step])
        assert (np.delete(rising, 1) if sampler == "PNDM" and steps > 1 else rising).min(initial=1) > 0


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_the_first_call_is_near_pure_noise_and_the_network_is_told_the_level_it_sees(sampler, spacing):
    levels = visited_levels(sampler, spacing, 30)
    assert levels.alpha[0] < 0.13
    assert levels.t[0] > 950
    if spacing == "zero_snr":
        assert levels.snr[0] == pytest.approx(2.0**-24, rel=1e-3)
    told = np.array([STABLE_DIFFUSION.level_at(t) for t in levels.t])
    beyond = levels.alpha < STABLE_DIFFUSION.levels().alpha[-1] * (1 - 1e-4)
    assert beyond.sum() == (4 if spacing == "zero_snr" else 0)
    assert (levels.t[beyond] == 999).all()
    np.testing.assert_allclose(told[~beyond, 0], levels.alpha[~beyond], rtol=3e-5)
    np.testing.assert_allclose(told[~beyond, 1], levels.sigma[~beyond], rtol=3e-5)


def test_a_few_levels_by_hand():
    grid = training_levels()
    assert len(grid) == 1000
    ddim = visited_levels("DDIM", "default", 4)
    assert ddim.t.tolist() == [751, 501, 251, 1]
    np.testing.assert_allclose(ddim.log_snr, grid.log_snr[[751, 501, 251, 1]], rtol=1e-12)
    assert visited_levels("Euler", "trailing", 4).t.tolist() == [999, 749, 499, 249]
    assert visited_levels("DPM++ 2M", "default", 3).t.tolist() == [999, 666, 333]
    karras = visited_levels("Euler", "karras", 3)
    low, high = grid.sigma[0] / grid.alpha[0], grid.sigma[-1] / grid.alpha[-1]
    middle = ((low ** (1 / 7) + high ** (1 / 7)) / 2) ** 7
    np.testing.assert_allclose(karras.sigma / karras.alpha, [high, middle, low], rtol=1e-6)
    lu = visited_levels("DPM++ 2M", "lu", 5)
    np.testing.assert_allclose(np.diff(lu.log_snr, n=2), 0, atol=1e-5)
    ays = visited_levels("Heun", "ays", 10)
    np.testing.assert_allclose(
        (ays.sigma / ays.alpha)[[0, 1, 3, -1]], [14.615, 6.475, 3.861, 0.152], rtol=1e-6
    )


@pytest.mark.parametrize("kind", BETAS)
def test_other_noise_schedules_are_walked_too(kind):
    noise_schedule = NoiseSchedule.from_betas(kind)
    for sampler, spacing in (
        ("DDIM", "default"),
        ("DPM++ 2M", "karras"),
        ("UniPC", "beta"),
        ("Heun", "karras"),
    ):
        levels = visited_levels(sampler, spacing, 40, noise_schedule)
        assert len(levels) == calls(sampler, 40)
        assert levels.t[0] > 950
        assert np.isfinite(levels.log_snr).all()


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_strength_starts_late_on_the_same_schedule(sampler, spacing):
    whole, part = visited_levels(sampler, spacing, 10), visited_levels(sampler, spacing, 10, strength=0.6)
    assert len(part) == calls(sampler, 6)
    skipped = len(whole) - len(part)
    if sampler == "PNDM":
        assert part.t.tolist() == [whole.t[5], *whole.t[6:7], *whole.t[6:]]
    else:
        np.testing.assert_array_equal(part.t, whole.t[skipped:])
        np.testing.assert_array_equal(part.sigma, whole.sigma[skipped:])
    assert len(visited_levels(sampler, spacing, 10, strength=0.01)) == 1


def test_levels_are_shared_and_cannot_be_changed():
    levels = visited_levels("DDIM", "default", 4)
    assert visited_levels("DDIM", "default", 4) is levels
    with pytest.raises(ValueError, match="read-only"):
        levels.t[0] = 3
    json.dumps(levels.to_dict(), allow_nan=False)


def test_names_and_grid_need_neither_torch_nor_a_page():
    code = (
        "import sys; from modules.diffusion.schedule import *; training_levels(); spacings_for('DDIM');"
        "heavy = {'torch', 'diffusers', 'gradio', 'transformers', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_levels_need_neither_a_page_nor_a_text_encoder():
    code = (
        "import sys; from modules.diffusion.schedule import *; visited_levels('DPM++ 2M', 'karras', 20);"
        "heavy = {'gradio', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_after_a_rehearsal_of_every_sampler_no_redraw_waits_for_an_import():
    code = (
        "import sys\n"
        "from modules.diffusion.schedule import SAMPLERS, rehearsed, visited_levels\n"
        "names, known = list(rehearsed()), {*sys.modules}\n"
        "for name in names:\n"
        "    for spacing in SAMPLERS[name].spacings:\n"
        "        visited_levels(name, spacing, 3)\n"
        "print(names == list(SAMPLERS), sorted({*sys.modules} - known))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.strip() == "True []", said.stderr
