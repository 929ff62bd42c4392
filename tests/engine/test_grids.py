"""A grid paints every pair once, from one seed, each cell the picture that its task gives alone."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from modules.diffusion.sampling import Step
from modules.engine.generation import Result
from modules.engine.grids import ALONE, Sheet, axis, contact_sheet, paint_grid, prompt_matrix
from modules.engine.studio import Engine
from modules.settings import Settings
from modules.tasks import Inpaint, TaskError, TextToImage

TASK = TextToImage(prompt="a red apple", steps=2, seed=5, width=128, height=128, model="tiny")


@pytest.fixture(scope="module")
def engine(tiny_folder, tmp_path_factory) -> Engine:
    return Engine(Settings(model=str(tiny_folder), device="cpu", output_dir=tmp_path_factory.mktemp("out")))


def grid(engine, task, *axes):
    return paint_grid(engine.run, engine.check, task, *axes)


def test_every_cell_is_the_picture_that_its_task_gives_alone(engine):
    across, down = axis(TextToImage, "steps", "1, 3"), axis(TextToImage, "prompt", "a cat | a star")
    events = list(grid(engine, dataclasses.replace(TASK, batch_size=3), across, down))
    sheets = [event for event in events if isinstance(event, Sheet)]
    assert [(sheet.done, sheet.total) for sheet in sheets] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sum(isinstance(event, Step) for event in events) == 1 + 3 + 1 + 3
    result = events[-1]
    assert isinstance(result, Result)
    assert result.info["grid"] == {"across": ["steps 1", "steps 3"], "down": ["a cat", "a star"]}
    *_, alone = engine.run(dataclasses.replace(TASK, prompt="a star", steps=3))
    whole = np.asarray(result.images[0])
    last = whole[-128 - 8 : -8, -128 - 8 : -8]
    assert np.array_equal(last, np.asarray(alone.images[0]))
    (path,) = engine.save(result)
    assert Image.open(path).size == result.images[0].size


def test_all_cells_share_a_drawn_seed(engine):
    asked = []

    def run(task):
        asked.append(task)
        return engine.run(task)

    list(paint_grid(run, engine.check, dataclasses.replace(TASK, seed=-1), axis(TextToImage, "steps", "1,2")))
    assert asked[0].seed == asked[1].seed >= 0


def test_a_cell_that_cannot_be_painted_is_refused_before_the_first(engine):
    for name, said, words in [
        ("steps", "2, 0", "steps is 0"),
        ("steps", "2, many", "steps is 'many'; it must be a whole number"),
        ("guidance_scale", "x", "must be a number"),
        ("sampler", "Euler, Oiler", "sampler is 'Oiler'"),
        ("stepps", "2", "The field to vary is 'stepps'"),
        ("steps", " , ", "no value"),
        ("seed", ",".join(map(str, range(65))), "The grid has 65 pictures; it may have 1 to 64"),
    ]:
        with pytest.raises(TaskError, match=words):
            grid(engine, TASK, axis(TextToImage, name, said))
    with pytest.raises(TaskError, match="only_masked is 'maybe'; it must be yes or no"):
        axis(Inpaint, "only_masked", "maybe")
    with pytest.raises(TaskError, match="The field to vary is 'image'"):
        axis(Inpaint, "image", "x")


def test_closing_stops_the_cell_that_is_painted(engine):
    events = grid(engine, TASK, axis(TextToImage, "steps", "4, 5"))
    next(events)
    events.close()
    assert not engine._painting.locked()


def test_a_prompt_matrix_holds_every_choice_of_parts():
    base, across, down = prompt_matrix("a cat | red | at night | asleep")
    task = TextToImage(prompt=base)
    prompts = [[column.made(row.made(task)).prompt for column in across] for row in down]
    assert prompts == [
        ["a cat", "a cat, at night", "a cat, red", "a cat, red, at night"],
        ["a cat, asleep", "a cat, asleep, at night", "a cat, asleep, red", "a cat, asleep, red, at night"],
    ]
    assert [choice.label for choice in across] == ["as it is", "at night", "red", "red + at night"]
    assert prompt_matrix("a cat") == ("a cat", ALONE, ALONE)
    with pytest.raises(TaskError, match="7 parts make 128 pictures; 64 fit"):
        prompt_matrix("a" + "|b" * 7)


def test_a_sheet_is_laid_out_by_rows_and_its_empty_cells_wait():
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("#ff0000", "#0000ff"))
    sheet = contact_sheet([red, blue, red], ["", ""], ["", ""])
    assert sheet.size == (8 + 2 * 72, 8 + 2 * 56)
    corners = [sheet.getpixel(place) for place in ((8, 8), (80, 8), (8, 64), (80, 64), (0, 0))]
    assert corners == [(255, 0, 0), (0, 0, 255), (255, 0, 0), (242, 239, 232), (255, 255, 255)]
    labelled = contact_sheet([red], ["a label of very many words that cannot stand in one line"], ["row"])
    assert labelled.width == sheet.width - 72
    assert labelled.height > 48 + 16 + 4 * 15
