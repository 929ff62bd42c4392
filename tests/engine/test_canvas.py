"""A picture on its canvas and back, at every size that a person may bring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modules.engine.canvas import opened, prepare, working_size
from modules.images import PictureError
from modules.tasks import ImageToImage, Inpaint, TaskError


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def masked(width: int, height: int, *box: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


@given(st.integers(16, 3000), st.integers(16, 3000))
def test_the_canvas_has_a_size_that_networks_take_and_about_the_pixels_asked_for(width, height):
    across, down = working_size(width, height, 512 * 512)
    assert across % 64 == down % 64 == 0
    if max(width, height) <= 4 * min(width, height):
        assert 0.7 < across * down / 512**2 < 1.4


@given(
    st.integers(16, 300),
    st.integers(16, 300),
    st.booleans(),
    st.sampled_from([0, 3]),
    st.sampled_from([0, 40]),
)
def test_what_is_not_masked_comes_back_to_the_last_bit(width, height, only_masked, feather, extend):
    if max(width, height) > 8 * min(width, height):
        return
    picture, mask = photo(width, height), masked(width, height, 2, 3, 9, 12)
    task = Inpaint(
        image=picture, mask=mask, only_masked=only_masked, mask_feather=feather, extend_left=extend,
        width=128, height=128,
    )  # fmt: skip
    canvas = prepare(task)
    laid = canvas.laid()
    assert laid.size == canvas.size
    back = np.asarray(canvas.finished(photo(*canvas.size, seed=1)))
    assert back.shape == (height, width + extend, 3)
    kept = np.asarray(mask) == 0
    assert (back[:, extend:][kept] == np.asarray(picture)[kept]).all()
    assert (back[:, extend:][~kept] != np.asarray(picture)[~kept]).any()


def test_ten_passes_keep_the_rest_to_the_last_bit():
    picture, mask = photo(90, 70), masked(90, 70, 30, 20, 60, 50)
    kept, once = np.asarray(mask) == 0, picture
    for turn in range(10):
        canvas = prepare(Inpaint(image=once, mask=mask, width=128, height=128))
        once = canvas.finished(photo(*canvas.size, seed=turn + 1))
    assert (np.asarray(once)[kept] == np.asarray(picture)[kept]).all()


def test_the_shape_of_a_picture_survives_a_canvas_of_another():
    picture = Image.new("RGB", (300, 200), "navy")
    canvas = prepare(ImageToImage(image=picture, width=256, height=256))
    assert canvas.size == (320, 192)
    assert canvas.inner == (288, 192)
    assert canvas.finished(canvas.laid()).size == (288, 192)


def test_an_untouched_canvas_gives_the_picture_back():
    x = np.linspace(0, 255, 192, dtype=np.uint8)
    smooth = Image.fromarray(np.stack(np.broadcast_arrays(x[None], x[:, None], np.uint8(90)), -1))
    canvas = prepare(Inpaint(image=smooth, mask=masked(192, 192, 50, 50, 99, 99), start_from="original"))
    back = np.asarray(canvas.finished(canvas.laid()), int)
    assert np.abs(back - np.asarray(smooth, int)).max() <= 2


def test_a_latent_is_repainted_if_any_pixel_of_it_may_change():
    canvas = prepare(Inpaint(image=photo(256, 256), mask=masked(256, 256, 15, 32, 33, 48)))
    rows, columns = np.nonzero(canvas.latent_mask(16)[0, 0])
    assert set(rows) == {2}
    assert set(columns) == {0, 1, 2}


def test_new_edges_alone_are_painted_without_a_mask():
    canvas = prepare(Inpaint(image=photo(128, 128), extend_right=128, width=256, height=128))
    assert canvas.size == (256, 128)
    assert (canvas.latent_mask(16)[0, 0, :, :8] == 0).all()
    assert (canvas.latent_mask(16)[0, 0, :, 8:] == 1).all()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "image", "image is missing"),
        ({"image": photo(200, 12)}, "image", "at least 16"),
        ({"image": photo(400, 40)}, "image", "at most 8 times the shorter"),
        ({"image": photo(40, 40)}, "mask", "mask is empty"),
        ({"image": photo(40, 40), "mask": Image.new("L", (40, 40))}, "mask", "mask is empty"),
        ({"image": photo(40, 40), "mask": Image.new("L", (41, 40), 255)}, "mask", "41 x 40"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(values, field, words):
    with pytest.raises(TaskError, match=words) as refusal:
        opened(Inpaint(**values))
    assert refusal.value.field == field


def test_files_are_opened_as_carefully_as_uploads(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PictureError, match="not a picture"):
        opened(ImageToImage(image=tmp_path / "text.png"))
    Image.new("CMYK", (64, 64)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(tmp_path / "sixteen.png")
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    for name in ("cmyk.jpg", "sixteen.png", "moving.webp"):
        assert opened(ImageToImage(image=tmp_path / name))[0].shape == (64, 64, 3)


def test_a_mask_painted_on_nothing_is_read_by_its_opacity():
    strokes = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    strokes.paste((0, 0, 0, 255), (10, 20, 30, 40))
    _, mask = opened(Inpaint(image=photo(64, 64), mask=strokes))
    assert mask.sum() == 20 * 20
    assert mask[20, 10]
