"""`python app.py` as a newcomer meets it: help, a wrong flag, a page that answers, and what it prints."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("EPSILON_", "GRADIO_", "SPACE"))}


def app(*flags, **how):
    return subprocess.run(
        [sys.executable, "app.py", *flags], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, **how
    )


def test_help_names_every_promised_flag():
    said = app("--help").stdout
    for flag in ("host", "port", "share", "model", "device", "dtype", "offline", "public"):
        assert f"--{flag}" in said


@pytest.mark.parametrize("flags", [["--port", "many"], ["--model", "no-such-model"], ["--device", "abacus"]])
def test_a_wrong_flag_ends_with_a_sentence(flags):
    ended = app(*flags)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert flags[1] in ended.stderr


def test_reading_the_flags_needs_neither_gradio_nor_torch():
    code = "import app, sys; print([m for m in ('gradio', 'torch', 'diffusers') if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]", said.stderr


def test_building_the_page_needs_no_torch_and_no_tables():
    code = (
        "import sys, app\n"
        "from modules import ui\n"
        "settings = app.Settings.from_args([], {})\n"
        "ui.build(app.Engine(settings), settings)\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'pandas', 'mcp') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]", said.stderr


@pytest.fixture
def studio(tmp_path):
    """A running studio with a password; its address and what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--port", str(port), "--offline", "--outputs", str(tmp_path), "--password", "open sesame"]
    process = subprocess.Popen(
        [sys.executable, "app.py", *flags],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = ""
        while "Ctrl+C" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield f"http://127.0.0.1:{port}", printed
    finally:
        process.terminate()
        process.wait()


def test_it_listens_says_where_and_asks_for_the_password(studio):
    address, printed = studio
    assert address in printed
    assert "open sesame" not in printed
    assert urllib.request.urlopen(address).status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}/config")


def test_a_share_link_has_a_password_even_if_none_was_given():
    code = (
        "import app, gradio\n"
        "def launch(self, **how):\n"
        "    print(how['share'], how['auth'][0], len(how['auth'][1]))\n"
        "    return None, 'here', 'there'\n"
        "gradio.Blocks.launch = launch\n"
        "gradio.Blocks.block_thread = lambda self: None\n"
        "app.Engine.start = lambda self: None\n"
        "app.main(['--share'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    shared, user, length = said.stdout.splitlines()[0].split()
    assert (shared, user) == ("True", "studio")
    assert int(length) >= 12
    assert re.search(r"user studio and password \S{12,}", said.stdout)


def test_it_is_bound_to_this_computer_alone(studio):
    port = int(studio[0].rsplit(":", 1)[1])
    with pytest.raises(ConnectionError):  # one that listens everywhere would answer here too
        socket.create_connection(("127.0.0.2", port))
