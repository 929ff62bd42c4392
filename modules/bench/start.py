"""How soon a newcomer sees something: app.py is started as a person starts it, and asked over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import modules
from modules.engine.studio import Engine
from modules.settings import Settings
from modules.tasks import TextToImage

LOOK_AGAIN = 0.05  # seconds between two looks
GIVE_UP = 600  # seconds: only a studio that hangs ever meets it


def bench(model: str, device: str) -> dict[str, Any]:
    """Seconds from the start until the page answers and the first picture is there; CPU time and memory.

    RuntimeError if the studio ends, or never gets there.
    """
    engine = Engine(Settings(model=model, device=device))
    address = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as outputs:
        flags = ["--port", address.rpartition(":")[2], "--model", model, "--device", device]
        command = [sys.executable, str(modules.HOME / "app.py"), *flags, "--offline", "--outputs", outputs]
        begun = time.perf_counter()
        studio = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            waited_for(lambda: answers(address), studio)
            page, page_cpu = time.perf_counter() - begun, cpu_seconds(studio.pid)
            asked = {"prompt": "a red apple", "seed": 1, "model": engine.default_model}
            ask(address, "text_to_image", [asked.get(field.name) for field in fields(TextToImage)])
            picture, picture_cpu = time.perf_counter() - begun, cpu_seconds(studio.pid)
            memory = resident_megabytes(studio.pid)
        finally:
            studio.terminate()
            studio.wait()
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


def cpu_seconds(process: int) -> float | None:
    """The CPU time that a process has used, where the system tells."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(process: int) -> int | None:
    """The most memory that a process has held, where the system tells."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")), None)
