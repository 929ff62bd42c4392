"""Odd files as a client sends them: what can be read gives a picture, what cannot gives a sentence."""

import zlib

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from modules.engine.studio import Engine
from modules.settings import Settings
from modules.ui import build, launch_options


def empty_png() -> bytes:
    """A PNG that says of itself that it has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = bytes(8) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, data) for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of every odd kind, by name."""
    folder = tmp_path_factory.mktemp("odd")
    speckle = Image.effect_noise((64, 64), 60).convert("RGB")
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    speckle.save(folder / "plain.png")
    speckle.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(folder / "sixteen.png")
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(folder / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 5000)).save(folder / "thread.png")
    (folder / "empty.png").write_bytes(empty_png())
    (folder / "nothing.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    whole = (folder / "plain.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save(folder / "mask.png")
    mask.resize((32, 48)).save(folder / "other-mask.png")
    return folder


@pytest.fixture(scope="module")
def client(tiny_folder):
    engine = Engine(Settings(model=str(tiny_folder), device="cpu"))
    blocks = build(engine, Settings())
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    yield Client(address, verbose=False)
    blocks.close()


def sent(client, endpoint, **files):
    """What the endpoint makes of pictures from these files, worked on as small as may be."""
    given = {name: handle_file(path) for name, path in files.items()}
    return client.predict(**given, steps=1, strength=0.5, width=64, height=64, api_name=endpoint)


@pytest.mark.parametrize("name", ["cmyk.jpg", "sixteen.png", "moving.webp", "moving.png"])
def test_what_can_be_read_is_painted_on(client, files, name):
    made, info = sent(client, "/inpaint", image=files / name, mask=files / "mask.png")
    assert info["size"] == [64, 64]
    with Image.open(made[0]) as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.png", "damaged|not a picture"),
        ("nothing.png", "not a picture"),
        ("thread.png", "1 x 5000 pixels; each side must have at least 16"),
        ("half.png", "damaged"),
        ("text.png", "not a picture"),
        ("moving.gif", "send a PNG, JPEG or WebP"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(client, files, name, said):
    for endpoint, more in (("/inpaint", {"mask": files / "mask.png"}), ("/image_to_image", {})):
        with pytest.raises(AppError, match=said) as refusal:
            sent(client, endpoint, image=files / name, **more)
        assert "Traceback" not in str(refusal.value)
        assert str(files) not in str(refusal.value)
        assert str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other-mask.png", "mask is 32 x 48 pixels; it must have the picture's size, 64 x 64"),
        ("text.png", "not a picture"),
        ("half.png", "damaged"),
        ("empty.png", "damaged|not a picture"),
    ],
)
def test_a_mask_that_cannot_be_used_is_a_sentence(client, files, name, said):
    with pytest.raises(AppError, match=said) as refusal:
        sent(client, "/inpaint", image=files / "plain.png", mask=files / name)
    assert "Traceback" not in str(refusal.value)
