"""What a picture remembers goes back into the form, and what this studio cannot take is named."""

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.images import PictureError
from modules.presets.starts import read_presets
from modules.tasks import TextToImage
from modules.ui import recipes, runs
from modules.ui.forms import Form, Maker
from modules.ui.toolkit import gr
from tests.ui.fake import FakeEngine


@pytest.fixture
def engine():
    return FakeEngine(pace=0)


@pytest.fixture
def form(engine):
    make = Maker(engine, TextToImage)
    with gr.Blocks():
        fields = {
            "prompt": make.words("prompt", "Prompt"),
            "sampler": make.choice("sampler", "Sampler", engine.samplers()),
            "schedule": make.choice("schedule", "Spacing", engine.spacings("DPM++ 2M")),
            "width": make.slider("width", "Width"),
            "seed": gr.Textbox(label="Seed"),
        }
    return Form(TextToImage, fields)


def test_a_picture_made_here_gives_everything_back(engine, form):
    asked = TextToImage(prompt="a star", sampler="Euler", schedule="exponential", steps=2, seed=2**60)
    *_, done = runs.paint(engine, asked)
    task, unread = recipes.from_file(done["pictures"][0]["file"]["path"])
    assert (task, unread) == (asked, [])
    updates, left = recipes.fill(engine, form, task.scalars())
    assert left == []
    assert updates[form.fields["seed"]]["value"] == str(2**60)
    assert updates[form.fields["schedule"]]["value"] == "exponential"
    assert updates[form.fields["schedule"]]["choices"] == engine.spacings("Euler")


def test_what_this_studio_cannot_take_is_left_out_and_named(engine, form):
    values = {"prompt": "kept", "sampler": "Restart", "schedule": "karras", "width": 1024}
    updates, left = recipes.fill(engine, form, values)
    assert set(updates) == {form.fields["prompt"]}
    assert left == [
        "sampler Restart (unknown here)",
        "spacing karras (not with this sampler)",
        "width 1024 (here 128 to 512)",
    ]


def test_a_preset_fills_what_it_names_and_leaves_the_rest(engine, form):
    updates, left = recipes.begin(engine, {"text_to_image": form}, read_presets()["Colour study"])
    assert updates[form.fields["seed"]]["value"] == ""  # a new one each time
    assert updates[form.fields["prompt"]]["value"].count("__colour__") == 2
    assert form.fields["width"] not in updates
    assert left == []
    everywhere = recipes.begin(engine, {"a": form, "b": form}, read_presets()["Quick sketch"])[0]
    assert everywhere[form.fields["sampler"]]["value"] == "DPM++ 2M"
    assert form.fields["prompt"] not in everywhere


def test_a_picture_made_elsewhere_gives_what_it_says(tmp_path):
    chunks = PngInfo()
    chunks.add_text("parameters", "a cat\nSteps: 12, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 256x256")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=chunks)
    task, _ = recipes.from_file(tmp_path / "theirs.png")
    assert (task.prompt, task.steps, task.guidance_scale, task.seed) == ("a cat", 12, 7.0, 5)


def test_a_silent_picture_has_no_recipe_and_a_text_is_no_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "silent.png")
    assert recipes.from_file(tmp_path / "silent.png")[0] is None
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(PictureError):
        recipes.from_file(tmp_path / "text.png")
