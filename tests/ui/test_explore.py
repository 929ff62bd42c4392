"""The fold that describes a grid, and what the page is told while the grid is painted."""

import pytest

from modules.engine.grids import PARTS, WORDS, Grid, axis
from modules.engine.jobs import Jobs
from modules.tasks import KINDS, Inpaint, TaskError, TextToImage
from modules.ui import explore, line, runs
from modules.ui.explore import Explorer
from modules.ui.forms import Form
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine

NOTHING = ["", ""]


@pytest.fixture
def form():
    return Form(TextToImage, {"prompt": gr.Textbox(), "steps": gr.Slider()})


@pytest.fixture
def fold():
    with gr.Blocks():
        fold, buttons = Explorer(KINDS), [gr.Button("Generate"), gr.Button("Generate")]
        fold.wire(buttons)
    return fold


@pytest.fixture
def engine():
    engine = FakeEngine(pace=0)
    engine.start()
    return engine


def test_an_empty_fold_asks_for_the_task_itself(fold, form):
    assert fold.asked(form, ["a cat", 7, *NOTHING * 3]) == TextToImage(prompt="a cat", steps=7)
    assert fold.asked(form, ["a cat", 7, None, "1, 2", *NOTHING * 2]) == TextToImage(prompt="a cat", steps=7)


def test_a_filled_fold_asks_for_a_grid_over_the_form(fold, form):
    asked = fold.asked(form, ["a cat", 7, *NOTHING, "steps", "2-4", WORDS, "cat, dog"])
    assert isinstance(asked, Grid)
    assert [(cell.prompt, cell.steps) for cell in asked.cells] == [
        *(("a cat", 2), ("a cat", 3), ("a cat", 4)),
        *(("a dog", 2), ("a dog", 3), ("a dog", 4)),
    ]


def test_a_field_of_another_tab_is_refused_in_words(fold, form):
    with pytest.raises(TaskError, match="The field to vary is 'strength'"):
        fold.asked(form, ["a cat", 7, "strength", "0.5, 1", *NOTHING * 2])


@pytest.mark.parametrize(
    ("own", "told", "label"),
    [
        (NOTHING * 3, "", "Generate"),
        (
            ["steps", "2-4", PARTS, "red | big", *NOTHING],
            "<p>12 pictures on one sheet.</p>",
            "Generate 12 pictures",
        ),
        (["steps", "2", *NOTHING * 2], "<p>1 picture on one sheet.</p>", "Generate"),
        (["steps", "1-64", "seed", "1, 2", *NOTHING], "a sheet holds 64", "Generate"),
        (["steps", "", *NOTHING * 2], "There is no value to try for steps", "Generate"),
        (["strength", "<b>", *NOTHING * 2], "&lt;b&gt;", "Generate"),
    ],
)
def test_the_fold_tells_how_many_and_so_do_the_buttons(fold, own, told, label):
    *hints, text, one, two = fold._changed(*own)
    assert told in text
    assert (one, two) == (label, label)
    assert hints[0]["placeholder"] == explore.hint(own[0])


def test_what_can_be_varied_is_every_simple_field_of_the_page():
    names = [name for _, name in explore.choices({"text_to_image": TextToImage, "inpaint": Inpaint})]
    assert len(names) == len(set(names))
    assert {"", "steps", "strength", "mask_feather", WORDS, PARTS} <= set(names)
    assert not {"image", "mask", "model", "batch_size", "control_type"} & set(names)
    for name in names:
        assert explore.spoken(name) is not None


def test_a_grid_fills_its_sheet_and_is_one_picture_of_the_history(engine):
    grid = Grid(task=TextToImage(steps=2, seed=3), across=axis(TextToImage, "steps", "2, 3"))
    messages = [message for message in runs.work(engine, grid, "me") if message]
    shares = [message["share"] for message in messages[:-1]]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert "picture 2 of 2" in [message["text"].split(",")[0] for message in messages]
    assert [m["kept"] for m in messages if m.get("pause")] == [1]
    assert messages[-1]["text"].startswith("2 pictures on one sheet")
    assert len(messages[-1]["pictures"]) == 1
    assert engine.history.count(explore_query(), "me") == 1


def explore_query():
    from modules.engine.history import Query

    return Query()


def test_a_grid_that_is_cancelled_says_that_it_goes_on(engine):
    grid = Grid(task=TextToImage(steps=2, seed=4), across=axis(TextToImage, "seed", "1-3"))
    jobs = Jobs(lambda task, owner: runs.work(engine, task, owner))
    job = jobs.submit(grid, "me")
    seen = next(seen for seen in jobs.watch(job.id) if (seen.report or {}).get("kept"))
    if jobs.cancel(job.id):  # it may have been quicker
        told = line.ended(jobs.get(job.id))
        kept = seen.report["kept"]
        assert told["phase"] == "stopped"
        assert "Generate goes on from the" in told["text"]
        assert kept >= 1
