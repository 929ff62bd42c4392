"""The examples of the API, as they are printed for people, do what they say."""

import ast
import asyncio
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from modules.settings import Settings
from modules.tasks import KINDS, help_for
from modules.ui import build, launch_options
from tests.ui.fake import FakeEngine

EXAMPLES = Path(__file__).parent / "examples"
PRINTED = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def address():
    engine, settings = FakeEngine(pace=0.002), Settings(mcp=True)
    engine.start()
    blocks = build(engine, settings)
    _, address, _ = blocks.launch(**launch_options(settings), prevent_thread_lock=True)
    yield address.rstrip("/")
    blocks.close()


def source(name, address):
    text = (EXAMPLES / name).read_text("utf-8")
    assert PRINTED in text
    return text.replace(PRINTED, address)


def run(name, address):
    """What an example prints, line by line; it runs as a person would run it."""
    done = subprocess.run(
        [sys.executable, "-c", source(name, address)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("Loaded as API")]


def test_gradio_client_paints_a_picture(address):
    (line,) = run("client.py", address)
    path, snr = line.split(" ", 1)
    assert Image.open(path).size == (256, 256)
    assert len(ast.literal_eval(snr)) == 20


def test_a_job_is_submitted_polled_and_brought(address):
    *states, files = run("jobs.py", address)
    assert states[-1].startswith("done 0")
    assert Image.open(ast.literal_eval(files)[0]).format == "PNG"


@pytest.mark.skipif(shutil.which("curl") is None, reason="There is no curl here.")
def test_rest_answers_at_once(address):
    base, *commands = [line for line in source("rest.sh", address).splitlines() if not line.startswith("#")]
    answers, id = [], ""
    for command in commands:
        script = f"{base}\n{command.replace('THE ID', id)}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout)["data"])
        id = answers[0][0]["id"]
    assert answers[1][1]["state"] in ("queued", "running", "done")
    assert answers[2][0]["cancelled"] in (True, False)
    assert len(answers[3][0]["visited"]["snr"]) == 20


def test_mcp_returns_the_picture(address):
    names, parts = run("mcp_client.py", address)
    beside = "snr_curve models submit job cancel replay compare script".split()
    assert set(ast.literal_eval(names)) == {*KINDS, *beside}
    assert ast.literal_eval(parts) == ["image", "text", "text"]


def test_mcp_tools_explain_themselves_and_refuse_in_words(address):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask():
        async with (
            streamablehttp_client(f"{address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            made = await session.call_tool("text_to_image", {"prompt": "a star", "seed": 5, "width": 128})
            refused = await session.call_tool("text_to_image", {"steps": 0})
            return tools, made, refused

    with ThreadPoolExecutor(1) as thread:  # a browser test's loop may still own this one
        tools, made, refused = thread.submit(asyncio.run, ask()).result()
    tool = tools["text_to_image"]
    assert tool.description.startswith("A picture from words.")
    fields = {field.name for field in dataclasses.fields(KINDS["text_to_image"])}
    assert set(tool.inputSchema["properties"]) == fields - {"batch_size"}
    said = tool.inputSchema["properties"]["guidance_scale"]["description"]
    assert said == help_for(KINDS["text_to_image"], "guidance_scale")
    picture, _, info = made.content
    assert Image.open(io.BytesIO(b64decode(picture.data))).size == (128, 256)
    assert json.loads(info.text)["seed"] == 5
    assert refused.isError
    assert "steps is 0" in refused.content[0].text


def test_without_the_flag_there_are_no_tools():
    engine = FakeEngine()
    names = {fn.api_name for fn in build(engine, Settings()).fns.values() if fn.api_visibility == "public"}
    assert not [name for name in names if re.match("tool_", name)]
