"""Odd and impossible values, by page and by API: told in words, nothing lost, and the next job works."""

import json
import math
import time
from dataclasses import fields
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from modules.bench.start import ask
from modules.settings import Settings
from modules.tasks import TextToImage
from modules.ui import build, launch_options
from tests.ui.fake import FakeEngine

ODD = {
    "the longest": "x" * 10_000,
    "NUL": "a\x00 cat",
    "lone surrogates": "a \ud83d cat \udc00",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "emoji": "👩🏽\u200d🚀 and 🐈",
    "right to left": "\u202eתפוח אדום، قطة",
    "a template": "${alert(1)} {{value}}",
}
HELD = {"NUL": "a cat", "lone surrogates": "a \ufffd cat \ufffd"}
"""What is painted, where it is not what was sent."""

IMPOSSIBLE = {
    "no steps": ({"steps": 0}, "0"),
    "guidance that is no number": ({"guidance_scale": math.nan}, "guidance_scale is nan"),
    "a size below nothing": ({"width": -64}, "-64"),
    "an unknown sampler": ({"sampler": "Magic"}, "Magic"),
    "too many words": ({"prompt": "x" * 10_001}, "10,001 characters"),
}


class Studio:
    """A page on a port of this machine, and what no browser would send it."""

    def __init__(self):
        self.engine = FakeEngine(pace=0)
        self.engine.start()
        self.blocks = build(self.engine, Settings())
        _, address, _ = self.blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
        self.address = address.rstrip("/")

    def press(self, **values):
        """What the page is told when Generate is pressed: a message for the gallery, or an error's words."""
        button = next(one for one in self.blocks.blocks.values() if one.elem_id == "generate-text_to_image")
        handler = next(fn for fn in self.blocks.fns.values() if (button._id, "click") in fn.targets)
        held = [values.get(part.elem_id, getattr(part, "value", None)) for part in handler.inputs]
        body = {"data": held, "fn_index": handler._id, "session_hash": "odd"}
        sent = Request(
            f"{self.address}/gradio_api/run/predict",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urlopen(sent) as answer:
                return json.load(answer)["data"][0].get("text", "")
        except HTTPError as refusal:
            return json.load(refusal)["error"]

    def call(self, **values):
        """What /text_to_image answers; RuntimeError with its words if it refuses."""
        return ask(self.address, "text_to_image", [values.get(field.name) for field in fields(TextToImage)])

    def until_painted(self, count):
        """The words of that many runs in all."""
        give_up = time.monotonic() + 60
        while len(self.engine.runs) < count or self.engine.running:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return [task.prompt for task in self.engine.runs]


@pytest.fixture(scope="module")
def studio():
    studio = Studio()
    yield studio
    studio.blocks.close()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_prompt_is_painted_by_the_page(studio, name):
    count = len(studio.engine.runs)
    studio.press(prompt=ODD[name])
    assert studio.until_painted(count + 1)[-1] == HELD.get(name, ODD[name])


@pytest.mark.parametrize("name", ODD)
def test_an_odd_prompt_is_painted_by_the_api(studio, name):
    files, info = studio.call(prompt=ODD[name], steps=2)
    assert len(files) == 1
    assert info["prompt"] == HELD.get(name, ODD[name])


@pytest.mark.parametrize("door", ["press", "call"])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_words_and_the_next_job_works(studio, door, name):
    values, said = IMPOSSIBLE[name]
    count = len(studio.engine.runs)
    try:
        told = getattr(studio, door)(**values)
    except RuntimeError as refusal:
        told = str(refusal)
    assert said in told
    assert "Traceback" not in told
    assert len(studio.engine.runs) == count
    getattr(studio, door)(prompt="a cat", steps=2)
    assert studio.until_painted(count + 1)[-1] == "a cat"
