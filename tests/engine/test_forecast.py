"""The forecast finds the law behind exact costs, counts the calls, and says what it does not know."""

import dataclasses
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.diffusion.noise import STABLE_DIFFUSION
from modules.diffusion.samplers import SAMPLERS
from modules.engine import forecast as room
from modules.engine.forecast import CALL, DECODE, START, Forecast, Forecaster, Line, Pace, fit, observed, work
from modules.engine.measurements import Place
from modules.tasks import ClassConditional, Inpaint, TextToImage

PLACE = Place(model="pocket", hash="abc", device="cpu", dtype="float32", threads=2, weights=10**9)
TASK = TextToImage(prompt="a cat", steps=10, width=512, height=512)


@given(fixed=st.floats(0, 100), rate=st.floats(0.001, 100), amounts=st.sets(st.integers(1, 50), min_size=2))
def test_a_line_is_found_again(fixed, rate, amounts):
    found = fit([(x, fixed + rate * x) for x in amounts])
    assert found.fixed == pytest.approx(fixed, rel=1e-5, abs=1e-5 * rate)
    assert found.rate == pytest.approx(rate, rel=1e-5, abs=1e-7 * fixed)


def test_the_fit_in_numbers():
    assert fit([]) is None
    assert fit([(2, 6), (2, 6)]) == pytest.approx((0, 3))  # one amount: through 0
    assert fit([(0, 5), (0, 5)]) == pytest.approx((5, 0))
    assert fit([(1, 4), (2, 2)]) == pytest.approx((2.4, 0))  # it falls: the mean, weighted 1/16 and 1/4
    assert fit([(1, 1), (3, 9)]) == pytest.approx((0, 1.2))  # never below 0
    assert Line(2.0, 3.0).at(4) == 14


def test_every_sampler_is_counted_as_it_walks():
    from modules.diffusion.schedule import visited_levels

    for name, sampler in SAMPLERS.items():
        for steps, strength in ((1, 1.0), (2, 1.0), (7, 1.0), (20, 1.0), (20, 0.3), (7, 0.5), (2, 0.5)):
            walked = visited_levels(name, sampler.spacings[0], steps, STABLE_DIFFUSION, strength).t
            task = Inpaint(sampler=name, schedule=sampler.spacings[0], steps=steps, strength=strength)
            assert room.calls(task) == len(walked), (name, steps, strength)


@pytest.mark.parametrize(
    ("task", "passes"),
    [
        (TASK, 2),
        (dataclasses.replace(TASK, guidance_scale=1.0), 1),
        (dataclasses.replace(TASK, guidance_scale=0.0), 1),
        (TextToImage(), 1),
        (TextToImage(prompt="  "), 1),
        (TextToImage(negative_prompt="blue"), 2),
        (ClassConditional(class_name="cat"), 2),
        (ClassConditional(class_name="cat", negative_prompt="blue"), 2),
        (ClassConditional(class_name="cat", prompt="red"), 3),
        (ClassConditional(class_name="cat", prompt="red", guidance_scale=0.5, class_scale=0.5), 2),
    ],
)
def test_passes_are_those_of_guidance(task, passes, tiny_folder):
    assert room.passes(task) == passes


def test_passes_are_those_that_the_network_sees(tiny_folder):
    from modules.engine.generation import generate
    from modules.models.catalog import card_for_folder
    from modules.models.loading import load

    model, seen = load(card_for_folder(tiny_folder), "cpu"), []
    model.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    shared = {"steps": 1, "width": 64, "height": 64, "model": "tiny", "seed": 1}
    for task in (
        TextToImage(prompt="cat", batch_size=3, **shared),
        TextToImage(negative_prompt="cat", **shared),
        ClassConditional(class_name="cat", prompt="red", **shared),
        ClassConditional(class_name="cat", prompt="red", guidance_scale=0, **shared),
    ):
        seen.clear()
        list(generate(model, task))
        assert seen == [work(task).passes * task.batch_size] * work(task).calls


def costs(task, fixed=2.0, per_call=0.1, per_mega=3.0, per_decode=1.5):
    """Seconds up to each Step and the Result of a machine that keeps to a law."""
    asked = work(task)
    call = per_call + per_mega * asked.call
    return [fixed + call, *[call] * (asked.calls - 1), per_decode * asked.area * asked.batch]


def test_a_law_is_learned_and_foretells_other_tasks(tmp_path):
    forecaster = Forecaster(tmp_path)
    assert forecaster.of(TASK, None) == Forecast()
    assert forecaster.of(TASK, PLACE).seconds is None
    for task in (TASK, dataclasses.replace(TASK, width=1024, batch_size=2)):
        spent = costs(task)
        forecaster.measurements.add(PLACE, observed(task, spent, [0] * len(spent)))
    again = Forecaster(tmp_path)  # the next start of the studio
    for task in (
        TASK,
        dataclasses.replace(TASK, width=768, height=1024, batch_size=3, steps=25, sampler="Heun"),
        dataclasses.replace(TASK, guidance_scale=1.0),
    ):
        assert again.of(task, PLACE).seconds == pytest.approx(sum(costs(task)), rel=1e-4)
    assert again.of(TASK, PLACE).bytes is None  # nobody counted


def test_memory_is_the_larger_of_a_call_and_a_decoding(tmp_path, monkeypatch):
    forecaster = Forecaster(tmp_path)
    asked = work(TASK)
    taken = [int(1e9 * asked.call)] * asked.calls + [int(5e9 * asked.area)]
    forecaster.measurements.add(PLACE, observed(TASK, costs(TASK), taken))
    monkeypatch.setattr(room.memory, "free", lambda device: 3 * 10**9)
    found = forecaster.of(TASK, PLACE, loaded=True)
    assert found.bytes == pytest.approx(5e9 * asked.area, rel=1e-4)
    assert found.needed == found.bytes + 10**9
    assert found.fits
    eight = dataclasses.replace(TASK, batch_size=8)  # pictures are decoded one by one
    assert forecaster.of(eight, PLACE, loaded=True).bytes == pytest.approx(1e9 * 8 * asked.call, rel=1e-4)
    assert not forecaster.of(eight, PLACE, loaded=True).fits
    assert not forecaster.of(dataclasses.replace(TASK, width=1024), PLACE, loaded=False).fits


def test_what_slows_one_run_down_does_not_move_the_forecast(tmp_path):
    forecaster = Forecaster(tmp_path)
    for slow in (1, 1, 30, 1, 1):
        spent = [slow * second for second in costs(TASK)]
        forecaster.measurements.add(PLACE, observed(TASK, spent, [0] * len(spent)))
    assert forecaster.of(TASK, PLACE).seconds == pytest.approx(sum(costs(TASK)), rel=1e-4)


def test_a_kind_is_foretold_from_its_own_runs_once_there_are_any(tmp_path):
    forecaster = Forecaster(tmp_path)
    forecaster.measurements.add(PLACE, observed(TASK, costs(TASK), [0] * 11))
    edit = Inpaint(prompt="a cat", steps=10, width=512, height=512)
    assert forecaster.of(edit, PLACE).seconds == pytest.approx(sum(costs(TASK)), rel=1e-4)
    forecaster.measurements.add(PLACE, observed(edit, costs(edit, fixed=9.0), [0] * 11))
    assert forecaster.of(edit, PLACE).seconds == pytest.approx(sum(costs(TASK)) + 7, rel=1e-4)
    assert forecaster.of(TASK, PLACE).seconds == pytest.approx(sum(costs(TASK)), rel=1e-4)


def test_a_run_of_one_call_and_one_given_up():
    one = observed(dataclasses.replace(TASK, steps=1), [2.0, 0.5], [7, 8])
    assert [(seen.part, seen.seconds, seen.bytes) for seen in one] == [
        (START, 0, 7),
        (CALL, 2, 7),
        (DECODE, 0.5, 8),
    ]
    assert observed(TASK, [2.0], [7]) == []


def model_with(steps=3, **info):
    """A stand-in for a model, and events as of a run."""
    import torch

    device = torch.device("cpu")
    card = types.SimpleNamespace(id="pocket")
    model = types.SimpleNamespace(
        card=card, hash="abc", device=device, dtype=torch.float32, unet=torch.nn.Linear(2, 3)
    )

    def events():
        for index in range(steps):
            yield types.SimpleNamespace(index=index)
        yield types.SimpleNamespace(images=(), info=info)

    return model, events()


def test_watching_changes_nothing_and_keeps_what_a_run_cost(tmp_path):
    forecaster, (model, events) = Forecaster(tmp_path), model_with()
    seen = list(forecaster.watched(model, TASK, events))
    assert [getattr(event, "index", "result") for event in seen] == [0, 1, 2, "result"]
    place = room.place_of(model)
    assert (place.model, place.hash, place.device, place.dtype, place.weights) == (
        "pocket",
        "abc",
        "cpu",
        "float32",
        36,
    )
    assert {one.part for one in forecaster.measurements.at(place)} == {START, CALL, DECODE}


def test_a_run_that_was_rescued_or_stopped_teaches_nothing(tmp_path):
    forecaster, (model, events) = Forecaster(tmp_path), model_with(rescue="made one by one")
    list(forecaster.watched(model, TASK, events))
    model, events = model_with()
    watched = forecaster.watched(model, TASK, events)
    next(watched)
    watched.close()
    assert list(events) == []  # it was closed at once
    assert forecaster.measurements.at(room.place_of(model)) == []


def test_the_pace_is_that_foretold_else_that_of_the_last_jobs():
    double = dataclasses.replace(TASK, steps=20)
    pace = Pace()
    assert pace.seconds(TASK) is None
    assert pace.seconds(double, (TASK, 3.0, 0.5)) == pytest.approx(12)
    for seconds in (4, 50, 5):
        pace.done(TASK, seconds)
    assert pace.seconds(double) == pytest.approx(10)
    assert Pace(lambda task: 7.0).seconds(double) == 7
