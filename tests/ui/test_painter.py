"""What an easel sends is a stranger's word: read with care, refused in words."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from modules.images import PictureError
from modules.tasks import TaskError
from modules.ui import painter
from modules.ui.toolkit import served


def data_url(mask: Image.Image) -> str:
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return painter.PREFIX + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def held(tmp_path):
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "brought.png")
    return painter.holding(served(tmp_path / "brought.png"))


def test_an_empty_easel_holds_nothing():
    for value in (None, {}, {"picture": None, "mask": None}, "text", []):
        assert painter.read("image", value) is None
        assert painter.read("mask", value) is None


def test_a_mask_comes_at_the_pictures_size(held):
    small = Image.new("L", (40, 30))
    small.paste(255, (10, 10, 20, 20))
    value = held | {"mask": data_url(small)}
    assert painter.read("image", value).size == (80, 60)
    mask = np.asarray(painter.read("mask", value))
    assert mask.shape == (60, 80)
    assert np.argwhere(mask).min(0).tolist() == [20, 20]
    assert np.argwhere(mask).max(0).tolist() == [39, 39]
    assert painter.read("mask", held) is None


def test_only_what_was_sent_to_the_page_is_opened(held, tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "private.png")
    for path in (tmp_path / "private.png", "/etc/passwd", held["picture"]["path"] + "/../../../x.png", None):
        with pytest.raises(TaskError, match="not a file that was sent to this page") as refusal:
            painter.read("image", {"picture": {"path": str(path)}})
        assert refusal.value.field == "image"


@pytest.mark.parametrize(
    "mask",
    [
        "http://example.com/x.png",
        "data:text/html,hi",
        7,
        painter.PREFIX + "*" * 9,
        painter.PREFIX + "A" * 9_000_000,
    ],
)
def test_a_mask_that_is_none_is_refused_in_words(held, mask):
    with pytest.raises((TaskError, PictureError)):
        painter.read("mask", held | {"mask": mask})


def test_a_mask_that_is_no_picture_is_refused_in_words(held):
    with pytest.raises(PictureError):
        painter.read("mask", held | {"mask": painter.PREFIX + base64.b64encode(b"text").decode()})
