"""How gradio comes in: quietly, quickly, and for every file of this room through this one door.

Four things happen around the import. Analytics are switched off, so nothing leaves the machine. Calls to
this machine itself go past any proxy. Command lines, tables and MCP stay shut until they are used. And the
editor stubs (`.pyi`) that gradio would make anew for each of its eighty components are skipped: about half of
the import's time, and nothing written into the installation.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from modules.lean import standing_in

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
for variable in ("no_proxy", "NO_PROXY"):  # gradio calls itself while it starts; no proxy can help with that
    os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), "localhost,127.0.0.1,::1")))


@contextmanager
def _no_stub_files() -> Iterator[None]:
    """While open, gradio's components look as if they had no source file, and so get no stub."""
    getfile = inspect.getfile

    def without_components(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("no stub wanted")
        return getfile(thing)

    inspect.getfile = without_components
    try:
        yield
    finally:
        inspect.getfile = getfile


with standing_in(("gradio.cli", "httpx._main", "mcp", "pandas")), _no_stub_files():
    import gradio as gr
    import gradio.routes
    from gradio.processing_utils import save_file_to_cache, save_pil_to_cache
    from gradio.utils import get_upload_folder

# Else it is asked at the launch, and all of gradio's command line imported for the answer.
gr.Blocks._is_running_in_reload_thread = False  # pyright: ignore[reportAttributeAccessIssue]

__all__ = ["file_data", "gr", "on_gpu", "safe", "served", "served_picture", "unserved"]


@contextmanager
def unserved() -> Iterator[None]:
    """While open, a page gets no server: gradio would make three as it grows, to throw all of them away.

    `launch()` makes the one that serves, and so does `mount_gradio_app`.
    """
    app = gradio.routes.App
    made = app.create_app
    app.create_app = staticmethod(lambda *_, **__: None)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        app.create_app = staticmethod(made)


def served(path: Path) -> Path:
    """A copy of the file in gradio's own cache: it alone is served, the folder of the original is not."""
    return Path(save_file_to_cache(path, get_upload_folder()))


def served_picture(picture: Any) -> Path:
    """The picture as a PNG in gradio's own cache, from where it is served."""
    return Path(save_pil_to_cache(picture, get_upload_folder(), format="png"))


def file_data(path: Path, name: str | None = None) -> dict[str, Any]:
    """A served file as a script of the page gets it, with its address, under the name that it is saved by."""
    return {"path": str(path), "orig_name": name or path.name, "meta": {"_type": "gradio.FileData"}}


def safe(text: str) -> str:
    """Text that is shown as it is: gradio would run ${...} in the value of an HTML component."""
    return escape(text).replace("$", "&#36;").replace("{", "&#123;")


def on_gpu(generator: Callable[..., Any]) -> Callable[..., Any]:
    """The same generator function, run on a borrowed GPU where the `spaces` package is present."""
    try:
        import spaces  # pyright: ignore[reportMissingImports]
    except ImportError:
        return generator
    return spaces.GPU(generator)
