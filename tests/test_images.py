"""Pictures in and out: exact round trips, and strangers' files that are refused in words."""

import contextlib
import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from modules.images import PictureError, open_picture, to_pil, to_tensor


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_there_and_back_changes_nothing(pixels):
    picture = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(to_pil(to_tensor(picture))[0]), pixels)


def test_range_and_rounding_are_those_of_diffusers():
    from diffusers.image_processor import VaeImageProcessor

    values = torch.linspace(-1.2, 1.2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    theirs = VaeImageProcessor().postprocess(values, output_type="pil")[0]
    assert np.array_equal(np.asarray(to_pil(values)[0]), np.asarray(theirs))


def test_a_batch_keeps_its_order():
    pictures = [Image.new("RGB", (3, 2), (level, 0, 0)) for level in (10, 200)]
    batch = to_tensor(*pictures)
    assert batch.shape == (2, 3, 2, 3)
    assert [picture.getpixel((0, 0)) for picture in to_pil(batch)] == [(10, 0, 0), (200, 0, 0)]


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_open(format):
    opened = open_picture(encoded(Image.new("RGB", (8, 4), "red"), format))
    assert (opened.mode, opened.size) == ("RGB", (8, 4))
    assert opened.getpixel((0, 0))[0] > 240


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused(format):
    with pytest.raises(PictureError, match="send a PNG, JPEG or WebP"):
        open_picture(encoded(Image.new("RGB", (16, 16)), format))


def test_transparency_becomes_white_and_sixteen_bits_become_eight():
    assert open_picture(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    depth = Image.fromarray(np.array([[0, 32896, 65535]], np.uint16))
    assert np.asarray(open_picture(encoded(depth, "PNG")))[0, :, 0].tolist() == [0, 128, 255]


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the phone held sideways
    assert open_picture(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


def bomb(side: int) -> bytes:
    """A small PNG that unfolds into side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [6_000, 60_000])
def test_a_picture_that_unfolds_too_far_is_refused_unopened(side):
    with pytest.raises(PictureError, match="at most 32 million pixels"):
        open_picture(bomb(side))


def test_damage_and_absence_are_sentences(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "PNG")
    for damaged in (whole[: len(whole) // 2], b"", b"not a picture", whole[:20]):
        with pytest.raises(PictureError):
            open_picture(damaged)
    with pytest.raises(PictureError, match=r"nowhere\.png is not there"):
        open_picture(tmp_path / "nowhere.png")


@given(st.binary(max_size=300), st.integers(0, 200))
def test_no_bytes_raise_anything_else(noise, keep):
    whole = encoded(Image.new("RGB", (4, 4)), "PNG")
    with contextlib.suppress(PictureError):
        open_picture(whole[:keep] + noise)


def test_the_guard_closes_all_other_doors():
    code = (
        "import io; from PIL import Image; from modules.images import guard_decoders; guard_decoders();"
        "s = io.BytesIO(); Image.new('RGB', (4, 4)).save(s, 'PNG'); s.seek(0); Image.open(s).load();"
        "g = io.BytesIO(); Image.new('RGB', (4, 4)).save(g, 'BMP'); g.seek(0)\n"
        "try: Image.open(g); print('open')\n"
        "except Image.UnidentifiedImageError: print('closed')\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "closed"
