"""The files of a run's steps hold every frame that was kept, and the numbers that belong to them."""

import json
import shutil
import zipfile

import pytest
from PIL import Image

from modules.engine import flipbook
from modules.engine.trajectory import Trajectories
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import TextToImage

TASK = TextToImage(prompt="a cat", steps=10, seed=3, width=64, height=64, batch_size=2, model="tiny")


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load(card_for_folder(tiny_folder), "cpu")


@pytest.fixture
def trajectory(model):
    kept = Trajectories()
    *_, result = kept.recorded(model, TASK)
    return kept.find(result.images[1])


def test_the_gif_turns_a_page_for_every_call(trajectory):
    path = flipbook.gif(*trajectory)
    with Image.open(path) as book:
        assert (book.n_frames, book.info["loop"]) == (10, 0)
        assert book.size == (3 * 10 + 2 * 256, 2 * 26 + 256)
        book.seek(9)
        assert book.info["duration"] == flipbook.LAST
    shutil.rmtree(path.parent)


def test_the_zip_holds_frames_and_levels(trajectory):
    path = flipbook.packed(*trajectory)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        levels = json.loads(archive.read("levels.json"))
        assert Image.open(archive.open("heat-0010.png")).size == (256, 256)
    assert len(names) == 10 * len(trajectory[0].names) + 1
    assert [level["index"] for level in levels["kept"]] == list(range(10))
    assert set(levels["kept"][0]) == {"index", "t", "alpha", "sigma", "snr", "guidance_norm"}
    shutil.rmtree(path.parent)
