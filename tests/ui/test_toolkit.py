"""gradio comes in without leaving traces, and a borrowed GPU is used only where one can be borrowed."""

import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

from modules.ui import toolkit


def test_the_import_leaves_inspect_as_it_was():
    assert inspect.getfile.__module__ != toolkit.__name__  # torch replaces it too, and for good
    assert inspect.getfile(toolkit.gr.Textbox).endswith("textbox.py")


def test_gradio_may_not_call_home():
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_calls_to_this_machine_pass_by_any_proxy():
    code = "import modules.ui.toolkit, os; print(os.environ['no_proxy'])"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"no_proxy": "example.org", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "example.org,localhost,127.0.0.1,::1"


def test_what_is_served_is_a_copy(tmp_path):
    original = tmp_path / "picture.png"
    original.write_bytes(b"picture")
    copy = toolkit.served(original)
    assert copy.read_bytes() == b"picture"
    assert tmp_path not in copy.parents


def test_without_spaces_a_generator_stays_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)

    def paint():
        yield 1

    assert toolkit.on_gpu(paint) is paint


def test_with_spaces_it_borrows_a_gpu(monkeypatch):
    spaces = types.ModuleType("spaces")
    spaces.GPU = lambda fn: ("on a GPU", fn)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    assert toolkit.on_gpu(print) == ("on a GPU", print)
