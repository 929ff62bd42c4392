"""A grid paints every cell once, from one seed, each the picture that its task gives alone; and goes on."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from modules.diffusion.sampling import Step
from modules.engine.generation import Result
from modules.engine.grids import ALONE, PARTS, WORDS, Grid, axis
from modules.engine.sheets import Sheet, contact_sheet, shrunk
from modules.engine.studio import Engine
from modules.engine.unfinished import Unfinished, key_of, sweep
from modules.settings import Settings
from modules.tasks import Inpaint, TaskError, TextToImage

TASK = TextToImage(prompt="a red apple", steps=2, seed=5, width=128, height=128, model="tiny")


@pytest.fixture
def engine(tiny_folder, tmp_path) -> Engine:
    return Engine(Settings(model=str(tiny_folder), device="cpu", output_dir=tmp_path))


def sheets(events):
    return [event for event in events if isinstance(event, Sheet)]


def test_every_cell_is_the_picture_that_its_task_gives_alone(engine):
    across, down = axis(TextToImage, "steps", "1, 3"), axis(TextToImage, "prompt", "a cat | a star")
    grid = Grid(task=dataclasses.replace(TASK, batch_size=3), across=across, down=down)
    events = list(engine.explore(grid))
    assert [(sheet.done, sheet.total) for sheet in sheets(events)] == [(n, 4) for n in range(5)]
    assert sum(isinstance(event, Step) for event in events) == 1 + 3 + 1 + 3
    result = events[-1]
    assert isinstance(result, Result)
    assert result.info["grid"] == {"across": ["steps 1", "steps 3"], "down": ["a cat", "a star"]}
    *_, alone = engine.run(dataclasses.replace(TASK, prompt="a star", steps=3))
    last = np.asarray(result.images[0])[-128 - 8 : -8, -128 - 8 : -8]
    assert np.array_equal(last, np.asarray(alone.images[0]))
    (path,) = engine.save(result)
    assert Image.open(path).size == result.images[0].size
    assert list((engine.history.folder / ".unfinished").iterdir()) == []


def test_a_grid_that_was_stopped_goes_on_with_its_own_seed(engine):
    grid = Grid(task=dataclasses.replace(TASK, seed=-1), across=axis(TextToImage, "steps", "1-3"))
    events = engine.explore(grid, "me")
    while next(event for event in events if isinstance(event, Sheet)).done < 2:
        pass
    next(events)  # into the third cell
    events.close()
    assert not engine._painting.locked()
    assert sheets(engine.explore(grid, "them"))[0].done == 0  # another person's sheet is another
    again = list(engine.explore(grid, "me"))
    assert [sheet.done for sheet in sheets(again)] == [2, 3]
    *_, whole = engine.explore(
        dataclasses.replace(grid, task=dataclasses.replace(TASK, seed=again[-1].info["seed"]))
    )
    assert np.array_equal(np.asarray(again[-1].images[0]), np.asarray(whole.images[0]))


def test_a_sheet_of_other_weights_is_another(engine, monkeypatch):
    told = engine.model_hash("tiny")
    *_, result = engine.run(TASK)
    assert result.info["model_hash"] == engine.model_hash("tiny") == told
    grid = Grid(task=TASK, across=axis(TextToImage, "steps", "1, 2"))
    for done, after in ((0, told), (1, told), (0, "another")):
        monkeypatch.setattr(engine, "model_hash", lambda model, after=after: after)
        events = engine.explore(grid)
        assert next(events).done == done
        while not done and next(event for event in events if isinstance(event, Sheet)).done < 1:
            pass
        events.close()


def test_a_picture_that_was_damaged_is_painted_anew(tmp_path):
    kept = Unfinished(tmp_path, key_of([TASK]))
    assert kept.seeds({"seed": 3}) == {"seed": 3}
    assert Unfinished(tmp_path, key_of([TASK])).seeds({"seed": 4}) == {"seed": 3}
    info = TASK.scalars() | {
        "kind": "text_to_image", "seeds": [5], "model_hash": "", "versions": {"epsilon_studio": "0"},
    }  # fmt: skip
    kept.put(0, Image.new("RGB", (8, 8), "teal"), info)
    picture, told = kept.get(0)
    assert (picture.getpixel((0, 0)), told) == ((0, 128, 128), info)
    path = next(kept.folder.glob("*.png"))
    path.write_bytes(path.read_bytes()[:200])
    assert kept.get(0) is None
    (kept.folder / "seeds.json").write_text("[")
    assert kept.seeds({"seed": 9}) == {"seed": 9}
    sweep(tmp_path, 100)
    assert kept.folder.exists()
    sweep(tmp_path, -100)
    assert not kept.folder.exists()


def test_a_key_tells_pictures_apart():
    edits = [Inpaint(image=Image.new("RGB", (4, 4), colour)) for colour in ("red", "red", "blue")]
    keys = [key_of([edit]) for edit in edits]
    assert keys[0] == keys[1] != keys[2]
    assert key_of([TASK]) != key_of([TASK], "someone")


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("steps", "2, 0", "steps is 0"),
        ("steps", "2, many", "steps is 'many'; it must be a whole number"),
        ("steps", "9-2", "'9-2' is no range"),
        ("steps", "1-999", "no range of at most 64 numbers"),
        ("guidance_scale", "x", "must be a number"),
        ("sampler", "Euler, Oiler", "sampler is 'Oiler'"),
        ("stepps", "2", "The field to vary is 'stepps'"),
        ("steps", " , ", "no value"),
        (PARTS, "|", "no part of the prompt"),
        (PARTS, "a" + "|b" * 6, "7 parts make 128 pictures; 64 fit"),
        (WORDS, "pear, plum", "does not say 'pear'"),
        ("seed", ",".join(map(str, range(65))), "The grid has 65 pictures; it may have 1 to 64"),
        ("width", "128, 2048", "The sheet would have"),
    ],
)
def test_a_cell_that_cannot_be_painted_is_refused_before_the_first(engine, name, said, words):
    tall = dataclasses.replace(TASK, height=2048)
    down = axis(TextToImage, "seed", "1-9") if name == "width" else ALONE
    with pytest.raises(TaskError, match=words):
        engine.explore(Grid(task=tall, across=axis(TextToImage, name, said), down=down))


def test_fields_of_other_kinds_are_read_as_such():
    assert [choice.fields for choice in axis(Inpaint, "only_masked", "yes, no")] == [
        {"only_masked": True},
        {"only_masked": False},
    ]
    with pytest.raises(TaskError, match="only_masked is 'maybe'; it must be yes or no"):
        axis(Inpaint, "only_masked", "maybe")
    with pytest.raises(TaskError, match="The field to vary is 'image'"):
        axis(Inpaint, "image", "x")


def test_ranges_are_counted_out():
    def values(name, said):
        return [choice.fields[name] for choice in axis(TextToImage, name, said)]

    assert values("steps", "2-8 (+3), 20") == [2, 5, 8, 20]
    assert values("seed", "1-4") == [1, 2, 3, 4]
    assert values("guidance_scale", "1 - 2 (+0.5)") == [1.0, 1.5, 2.0]
    assert values("seed", "-1") == [-1]


def test_a_prompt_matrix_holds_every_choice_of_parts():
    task = TextToImage(prompt="a cat")
    grid = Grid(
        task=task, across=axis(TextToImage, PARTS, "red | at night"), down=axis(TextToImage, PARTS, "asleep")
    )
    assert [cell.prompt for cell in grid.cells] == [
        *("a cat", "a cat, at night", "a cat, red", "a cat, red, at night"),
        *("a cat, asleep", "a cat, asleep, at night", "a cat, asleep, red", "a cat, asleep, red, at night"),
    ]
    assert grid.labels[:2] == (("as it is", "at night", "red", "red + at night"), ("as it is", "asleep"))


def test_words_take_the_first_ones_place_in_blocks_of_rows():
    grid = Grid(
        task=TextToImage(prompt="a red apple"),
        across=axis(TextToImage, "seed", "1, 2"),
        deep=axis(TextToImage, WORDS, "apple, pear"),
    )
    assert [(cell.prompt, cell.seed) for cell in grid.cells] == [
        ("a red apple", 1), ("a red apple", 2), ("a red pear", 1), ("a red pear", 2),
    ]  # fmt: skip


def test_a_sheet_is_laid_out_by_rows_and_its_empty_cells_wait():
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("#ff0000", "#0000ff"))
    sheet = contact_sheet([red, blue, red], ["", ""], ["", ""])
    assert sheet.size == (8 + 2 * 72, 8 + 2 * 56)
    corners = [sheet.getpixel(place) for place in ((8, 8), (80, 8), (8, 64), (80, 64), (0, 0))]
    assert corners == [(255, 0, 0), (0, 0, 255), (255, 0, 0), (242, 239, 232), (255, 255, 255)]
    labelled = contact_sheet([red], ["a label of very many words that cannot stand in one line"], ["row"])
    assert labelled.width == sheet.width - 72
    assert labelled.height > 48 + 16 + 4 * 15


def test_blocks_stand_under_each_other_with_their_names():
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("#ff0000", "#0000ff"))
    sheet = contact_sheet([red, blue], ["seed"], [""], ["first", "second"])
    block = contact_sheet([red], ["seed"], [""])
    head = (sheet.height - 8 - 2 * block.height) // 2
    assert head > 15
    assert sheet.getpixel((40, 8 + head + block.height - 20)) == (255, 0, 0)
    assert sheet.getpixel((40, 8 + 2 * (head + block.height) - 20)) == (0, 0, 255)


def test_the_picture_that_forms_is_seen_in_its_place():
    red, green = (Image.new("RGB", (256, 128), colour) for colour in ("#ff0000", "#00ff00"))
    sheet = Sheet((shrunk(red),), (("", ""), ("",), ("",)), (256, 128))
    shown = sheet.preview(green)
    assert shown.size == (8 + 2 * 152, 8 + 80)
    assert (shown.getpixel((40, 40)), shown.getpixel((200, 40))) == ((255, 0, 0), (0, 255, 0))
    assert Sheet((), sheet.labels, (256, 128)).preview().size == shown.size
