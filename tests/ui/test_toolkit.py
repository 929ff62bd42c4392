"""gradio comes in without leaving traces, and a borrowed GPU is used only where one can be borrowed."""

import inspect
import os
import subprocess
import sys
import types
from pathlib import Path
from urllib.request import urlopen

from modules.settings import Settings
from modules.ui import build, launch_options, toolkit
from tests.ui.fake import FakeEngine


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


def test_a_page_gets_one_server_and_only_when_it_is_launched(monkeypatch):
    routes, made = toolkit.gradio.routes, []
    create = routes.App.create_app

    def counted(blocks, *args, **how):
        made.append(blocks)
        return create(blocks, *args, **how)

    monkeypatch.setattr(routes.App, "create_app", staticmethod(counted))
    blocks = build(FakeEngine(), Settings())
    assert made == []
    assert routes.App.create_app is counted  # as it was
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    try:
        assert made == [blocks]
        with urlopen(address) as page:
            assert page.status == 200
    finally:
        blocks.close()
