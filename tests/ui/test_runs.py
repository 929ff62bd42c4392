"""What the gallery is told while a picture is made, and what happens when it is not."""

import base64
import io

import pytest
from PIL import Image

from modules import metadata
from modules.tasks import ClassConditional, TextToImage
from modules.ui import gallery, runs
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine():
    engine = FakeEngine(pace=0)
    engine.start()
    return engine


def test_a_run_waits_runs_and_is_done(engine, monkeypatch):
    monkeypatch.setattr(runs, "PACE", 0)
    messages = list(runs.paint(engine, TextToImage(steps=5, seed=3)))
    assert [message["phase"] for message in messages] == ["waiting", *["running"] * 5, "done"]
    assert [message["call"] for message in messages[1:6]] == [0, 1, 2, 3, 4]
    assert messages[5]["text"] == "5 / 5, decoding…"
    assert "left" in messages[2]["text"]


def test_a_preview_is_a_small_picture_inside_the_message(engine):
    running = next(m for m in runs.paint(engine, TextToImage(steps=2)) if m["phase"] == "running")
    kind, data = running["preview"].split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 256)


def test_quick_steps_do_not_flood_the_page(engine):
    messages = list(runs.paint(engine, TextToImage(steps=200, width=128, height=128)))
    assert len([m for m in messages if m["phase"] == "running"]) < 200
    assert messages[-2]["share"] == 1


def test_every_picture_is_a_file_with_its_own_seed_inside(engine):
    *_, done = runs.paint(engine, TextToImage(prompt="a cat", steps=2, seed=7, batch_size=3))
    assert [picture["seed"] for picture in done["pictures"]] == ["7", "8", "9"]
    for picture in done["pictures"]:
        with Image.open(picture["file"]["path"]) as image:
            recipe = metadata.read(image)
        assert recipe.task.prompt == "a cat"
        assert str(recipe.task.seed) == picture["seed"]
        assert f"Seed: {picture['seed']}" in picture["infotext"]


def test_the_picture_carries_the_levels_of_its_own_run(engine):
    *_, done = runs.paint(engine, TextToImage(sampler="Euler", schedule="exponential", steps=6, seed=1))
    visited = engine.snr_curve("Euler", "exponential", 6)["visited"]
    assert done["pictures"][0]["levels"]["log_snr"] == visited["log_snr"]
    assert "seed 1" in done["pictures"][0]["levels"]["label"]


def test_closing_a_run_closes_the_engine_at_once(engine):
    messages = runs.paint(engine, TextToImage(steps=50))
    while next(messages)["phase"] != "running":
        pass
    assert engine.running == 1
    messages.close()
    assert (engine.running, engine.closed) == (0, 1)


def test_a_refusal_is_the_tasks_own_sentence(engine):
    *_, last = runs.paint(engine, ClassConditional(class_name="dragon"))
    assert last["phase"] == "refused"
    assert last["text"] == "class_name is 'dragon'; it is not a class of Pocket."


def test_an_unforeseen_failure_is_one_sentence_without_a_traceback(engine, caplog):
    engine.breaks = ZeroDivisionError("secret path")
    *_, last = runs.paint(engine, TextToImage(steps=5))
    assert last["phase"] == "refused"
    assert "ZeroDivisionError" in last["text"]
    assert "secret" not in last["text"]
    assert "secret path" in caplog.text
    assert engine.running == 0


def test_words_that_were_cut_are_counted(engine):
    *_, result = engine.run(TextToImage(steps=1))
    result.info["words_cut"] = 12
    assert "last 12 words" in runs.finished(engine, result)["text"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "less than a second left"), (3.4, "3 s left"), (89, "89 s left"), (240, "4 min left")],
)
def test_remaining_time_is_said_as_a_person_would(seconds, said):
    assert gallery.left(seconds) == said


def test_a_later_picture_of_a_batch_is_repeated_alone():
    *_, done = runs.paint(FakeEngine(pace=0, warm_up=0), TextToImage(steps=1, seed=5, batch_size=2))
    assert '"seed": 6' in done["pictures"][1]["recipe"]
    assert '"batch_size": 1' in done["pictures"][1]["recipe"]
    assert '"batch_size": 2' in done["pictures"][0]["recipe"]
