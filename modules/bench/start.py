"""How soon a newcomer sees something: app.py is started as a person starts it, and asked over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import modules
from modules.bench.machine import cpu_seconds, megabytes_of
from modules.engine.studio import Engine
from modules.settings import Settings
from modules.tasks import TextToImage

LOOK_AGAIN = 0.05  # seconds between two looks
GIVE_UP = 600  # seconds: only a studio that hangs ever meets it


class Studio(NamedTuple):
    """A studio in a process of its own, since when, and where its page will answer."""

    process: subprocess.Popen[Any]
    begun: float
    address: str


@contextmanager
def studio(model: str, device: str = "cpu") -> Generator[Studio]:
    """The studio as a person starts it, but with pictures in a folder that goes with it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as outputs:
        flags = ["--port", str(port), "--model", model, "--device", device]
        command = [sys.executable, str(modules.HOME / "app.py"), *flags, "--offline", "--outputs", outputs]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield Studio(process, begun, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait()


def bench(model: str, device: str) -> dict[str, Any]:
    """Seconds from the start until the page answers and the first picture is there; CPU time and memory.

    RuntimeError if the studio ends, or never gets there.
    """
    name = Engine(Settings(model=model, device=device)).default_model
    with studio(model, device) as (process, begun, address):
        waited_for(lambda: answers(address), process)
        page, page_cpu = time.perf_counter() - begun, cpu_seconds(process.pid)
        asked = {"prompt": "a red apple", "seed": 1, "model": name}
        ask(address, "text_to_image", [asked.get(field.name) for field in fields(TextToImage)])
        picture, picture_cpu = time.perf_counter() - begun, cpu_seconds(process.pid)
        memory = megabytes_of(process.pid)
    print(f"The page answered after {page:.1f} s, the first picture was there after {picture:.1f} s.")
    if page_cpu is not None and picture_cpu is not None:
        print(f"That took {page_cpu:.1f} and {picture_cpu:.1f} s of CPU time, and {memory} MB at most.")
    return {
        "page_seconds": page, "picture_seconds": picture, "page_cpu_seconds": page_cpu,
        "picture_cpu_seconds": picture_cpu, "resident_megabytes": memory,
    }  # fmt: skip


def waited_for(there: Callable[[], bool], studio: subprocess.Popen[Any]) -> None:
    """Look until it is there; RuntimeError as `bench`."""
    begun = time.perf_counter()
    while not there():
        if studio.poll() is not None or time.perf_counter() - begun > GIVE_UP:
            raise RuntimeError("The studio did not get that far; start it by hand to see why.")
        time.sleep(LOOK_AGAIN)


def answers(address: str) -> bool:
    """Whether the page is served."""
    try:
        with urllib.request.urlopen(address) as page:
            return page.status == 200
    except OSError:
        return False


def ask(address: str, endpoint: str, values: list[Any]) -> list[Any]:
    """What a named endpoint answers at last; null stands for a default. RuntimeError if it refuses."""
    url = f"{address}/gradio_api/call/{endpoint}"
    sent = urllib.request.Request(
        url, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(sent) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as stream:
        kind, told = "", ""
        for line in stream.read().decode("utf-8").splitlines():
            name, _, value = line.partition(": ")
            kind, told = (value if name == "event" else kind), (value if name == "data" else told)
    if kind != "complete":
        raise RuntimeError(f"/{endpoint} refused: {told}")
    return json.loads(told)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
