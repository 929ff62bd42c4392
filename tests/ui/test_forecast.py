"""The line under Generate says what is known, what is not, and nothing of what cannot be."""

import types

import pytest

from modules.engine.forecast import Forecast
from modules.tasks import TaskError, TextToImage
from modules.ui.forecast import said, unmeasured


def line(memory=None, **known):
    """What is said where the engine knows this much."""
    catalog = {"pocket": types.SimpleNamespace(memory=memory or {})}
    engine = types.SimpleNamespace(forecast=lambda task: Forecast(**known), catalog=catalog)
    return said(engine, TextToImage).removeprefix("<p>").removesuffix("</p>")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"seconds": 12.3}, "This takes about 12 s, by what was measured here."),
        ({"seconds": 0.4}, "This takes less than a second, by what was measured here."),
        ({"seconds": 600, "bytes": 10**9, "weights": 3 * 10**8, "free": 10**10},
         "This takes about 10 min and 1.3 GB, by what was measured here."),
        ({"seconds": 12, "bytes": 4 * 10**9, "weights": 10**9, "free": 3 * 10**9, "loaded": True},
         "This takes about 12 s and 5.0 GB, by what was measured here. Only 3.0 GB are free, so it will be "
         "made in smaller parts."),
    ],
)  # fmt: skip
def test_the_line_in_words(known, words):
    assert line(**known) == words


def test_what_was_never_measured_is_not_guessed():
    assert line().startswith("Not measured on this machine yet")
    assert line(memory={"float16": 9, "float32": 17}).endswith("about 9 GB in float16 or 17 GB in float32.")
    assert unmeasured({"bfloat16": 1.5}).endswith("It needs about 1.5 GB in bfloat16.")


def test_nothing_is_said_of_what_cannot_be():
    def impossible():
        raise TaskError("steps", "no")

    assert said(types.SimpleNamespace(), impossible) == ""
