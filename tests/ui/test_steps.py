"""What the folds under the frame and the schedule are told: steps, replay, lessons."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from modules import metadata
from modules.engine.history import History
from modules.engine.jobs import Jobs
from modules.tasks import TextToImage
from modules.ui import history, lessons, replay, runs, steps
from modules.ui.toolkit import get_upload_folder, served_picture
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine(tmp_path):
    engine = FakeEngine(pace=0)
    engine.history = History(tmp_path / "outputs")
    return engine


def asking(answers):
    named = {answer.__name__: history.in_words(answer) for answer in answers}
    return lambda question, **asked: named[question](asked)


def painted(engine, **fields):
    """The served path of a finished picture."""
    task = TextToImage(**{"prompt": "a cat", "steps": 4, "seed": 7, **fields})
    *_, done = runs.paint(engine, task)
    return done["pictures"][-1]["file"]["path"]


def test_the_steps_of_a_picture_are_found_and_shown(engine):
    path, ask = painted(engine), asking(steps.answers(engine))
    told = ask("find_steps", path=path)
    assert (told["total"], [each["index"] for each in told["moments"]]) == (4, [0, 1, 2, 3])
    assert told["views"]["steps"] == [
        ["noisy", "what the network is given"],
        ["clean", "what it has in mind"],
    ]
    assert [name for name, _ in told["views"]["guidance"]] == ["without", "prompt", "heat"]
    frames = ask("show_steps", path=path, places=[0, 3, 9, "x"], names=["noisy", "heat"])["frames"]
    assert list(frames) == ["0", "3"]
    assert all(url.startswith("data:image/jpeg;base64,") for url in frames["3"].values())


def test_without_guidance_there_is_no_view_of_it(engine):
    told = asking(steps.answers(engine))("find_steps", path=painted(engine, prompt=""))
    assert told["views"]["guidance"] == []


def test_steps_that_are_gone_and_files_that_are_not_the_pages_are_refused(engine, tmp_path):
    ask = asking(steps.answers(engine))
    path = served_picture(Image.new("RGB", (8, 8)))
    assert "gone" in ask("find_steps", path=str(path))["refused"]
    assert "choose it again" in ask("find_steps", path=str(tmp_path / "x.png"))["refused"]
    assert "choose it again" in ask("show_steps")["refused"]


def test_the_steps_are_packed(engine):
    path, ask = painted(engine), asking(steps.answers(engine))
    with Image.open(ask("export_steps", path=path, how="gif")["path"]) as book:
        assert book.n_frames == 4
    with zipfile.ZipFile(ask("export_steps", path=path, how="zip")["path"]) as archive:
        assert "noisy-0004.png" in archive.namelist()


@pytest.fixture
def again(engine):
    return asking(replay.answers(engine, Jobs(lambda task, owner: runs.work(engine, task, owner))))


def wait_for(again, begun, **asked):
    while "going" in (told := again("how_it_went", **begun, **asked)):
        pass
    return told


def test_a_replay_runs_in_line_and_is_compared(engine, again):
    path = painted(engine, batch_size=2)
    begun = again("run_again", path=path, owner="me")
    assert begun["index"] == 1
    told = wait_for(again, begun, path=path, owner="me")
    assert (told["identical"], list(told["fields"]), told["heat"]) == (True, [], None)
    assert "no such job" in again("how_it_went", **begun, path=path, owner="them")["refused"]


def test_what_differs_is_shown(engine, again):
    *_, result = engine.run(TextToImage(prompt="a cat", steps=4, seed=8))
    file = Path(get_upload_folder()) / "other.png"
    info = result.info | {"seed": 7, "seeds": [7], "versions": {"epsilon_studio": "0", "python": "2"}}
    metadata.write(result.images[0], file, info)
    asked = {"path": str(file), "owner": "me"}
    told = wait_for(again, again("run_again", **asked), **asked)
    assert told["heat"].startswith("data:image/jpeg")
    assert ("python version", "2", "3") in [tuple(field) for field in told["fields"]]


@pytest.mark.parametrize(("form", "name"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_carry_the_recipe(engine, again, form, name):
    made = again("save_as", path=painted(engine, batch_size=2), form=form)["path"]
    with Image.open(made) as saved:
        assert saved.format == name
        recipe = metadata.read(saved)
    assert (recipe.task.seed, recipe.info["index"]) == (8, 1)


def test_python_is_for_pictures_made_here(engine, again):
    assert "seed = 'a cat', 7" in again("write_python", path=painted(engine))["code"]
    silent = str(served_picture(Image.new("RGB", (8, 8))))
    assert "made here" in again("write_python", path=silent)["refused"]
    assert "does not say" in again("run_again", path=silent)["refused"]


def test_the_lessons_answer(engine):
    ask = asking(lessons.answers(engine))
    levels = ask("training_levels")["alphas_cumprod"]
    assert (len(levels), round(levels[-1] / (1 - levels[-1]), 4)) == (1000, 0.0047)  # theory, row 3
    assert ask("list_samplers")["samplers"]["LCM"] == ["default"]
    assert ask("meet_truth", sampler="Euler", schedule="karras")["outcomes"][-1]["steps"] == 160
