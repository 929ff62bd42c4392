"""What the drawer of earlier pictures is told: pages, one picture, and no more than is its owner's."""

import pytest
from PIL import Image

from modules.engine.history import History
from modules.tasks import TextToImage
from modules.ui import history, runs
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine(tmp_path):
    engine = FakeEngine(pace=0)
    engine.history = History(tmp_path / "outputs", shared=True)
    return engine


@pytest.fixture
def ask(engine):
    answers = {answer.__name__: history.in_words(answer) for answer in history.answers(engine)}
    return lambda question, **asked: answers[question](asked)


def paint(engine, owner="me", **fields):
    *_, done = runs.paint(engine, TextToImage(steps=2, seed=7, **fields), owner)
    return done["pictures"]


def test_a_finished_run_is_in_its_owners_history_alone(engine, ask):
    paint(engine, prompt="a cat", batch_size=2)
    told = ask("find_pictures", owner="me", words="CAT")
    assert (told["total"], told["choices"]["sampler"]) == (2, ["DPM++ 2M"])
    assert [entry["seed"] for entry in told["entries"]] == ["8", "7"]
    assert told["entries"][0]["thumbnail"].startswith("data:image/jpeg;base64,/9j/")
    for owner in ("them", "", None, 5, {}):
        assert ask("find_pictures", owner=owner)["total"] == 0
    nothing = ask("find_pictures", owner="me", words="dog")
    assert (nothing["total"], nothing["any"]) == (0, True)


def test_a_picture_opens_as_it_was_first_shown(engine, ask):
    first = paint(engine, prompt="a cat", batch_size=2)[1]
    name = ask("find_pictures", owner="me")["entries"][0]["name"]
    again = ask("open_picture", owner="me", name=name)["picture"]
    assert again == first
    assert "not in the history" in ask("open_picture", owner="them", name=name)["refused"]


def test_pages_follow(engine, ask, monkeypatch):
    monkeypatch.setattr(history, "PAGE", 2)
    paint(engine, batch_size=3)
    first = ask("find_pictures", owner="me")["entries"]
    last = first[-1]
    second = ask("find_pictures", owner="me", after=[last["at"], last["name"]])["entries"]
    assert [entry["seed"] for entry in (*first, *second)] == ["9", "8", "7"]


def test_deleting_takes_the_served_copy_too(engine, ask):
    [picture] = paint(engine)
    name = picture["file"]["orig_name"]
    assert ask("delete_pictures", owner="them", names=[name]) == {"gone": []}
    assert Image.open(picture["file"]["path"]).size == (256, 256)
    assert ask("delete_pictures", owner="me", names=[name]) == {"gone": [name]}
    with pytest.raises(FileNotFoundError):
        Image.open(picture["file"]["path"])


@pytest.mark.parametrize(
    "asked", [None, [], "x", {"names": 5}, {"after": 3}, {"after": ["x", 1]}, {"words": {}, "since": "then"}]
)
def test_nonsense_is_answered_in_words(engine, asked):
    for answer in history.answers(engine):
        told = history.in_words(answer)(asked)
        assert isinstance(told, dict)
        assert "Traceback" not in str(told)
