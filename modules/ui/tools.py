"""The Tasks as tools for MCP clients: a plain call waits for its job's turn and returns one picture.

gradio makes a tool of every named endpoint, called as the function is, described as its docstring says. What
yields returns text alone there, so the endpoints of api.py are no tools, and these take their place.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from PIL import Image

from modules import images, metadata
from modules.engine.jobs import DONE, Jobs
from modules.tasks import KINDS, Task, help_for
from modules.ui import runs
from modules.ui.toolkit import gr

LEFT_OUT = "batch_size"  # a tool returns one picture
HIDDEN = "endpoint"


def add_tools(engine: Any, jobs: Jobs | None, field_input: Callable[..., Any], signed: Any) -> None:
    """Adds a tool for every kind of Task; call inside gr.Blocks, before the endpoints, whose names they take.

    `field_input` makes the hidden component of a field; `signed` gives a function its parameters' names.
    """
    picture = gr.File(visible=False, label="picture")
    told = gr.Textbox(visible=False, label="recipe, as JSON")
    for name, kind in KINDS.items():
        fields = [field for field in dataclasses.fields(kind) if field.name != LEFT_OUT]
        tool = _tool(engine, jobs, kind, [field.name for field in fields])
        gr.Button(visible=False).click(
            signed(tool, [field.name for field in fields], described(kind, fields)),
            [field_input(kind, field) for field in fields],
            [picture, told],
            api_name=f"tool_{name}",
            queue=False,
            show_progress="hidden",
        )


def no_tool(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which gradio then keeps out of the tools."""
    fn._mcp_type = HIDDEN  # pyright: ignore[reportFunctionMemberAccess]
    return fn


def described(kind: type[Task], fields: list[dataclasses.Field[Any]]) -> str:
    """A docstring in the layout from which gradio takes the words for the tool and its parameters."""
    summary = " ".join((kind.__doc__ or "").split())
    lines = [f"    {field.name}: {help_for(kind, field.name)}" for field in fields]
    return "\n".join([summary, "", "Parameters:", *lines])


def _tool(engine: Any, jobs: Jobs | None, kind: type[Task], names: list[str]) -> Callable[..., Any]:
    pictures = {name for name in names if "picture" in kind.__dataclass_fields__[name].metadata}

    def tool(*values: Any) -> tuple[str, str]:
        try:
            given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for name in pictures & given.keys():
                given[name] = (images.open_mask if name == "mask" else images.open_picture)(given[name])
            path = _painted(engine, jobs, kind.from_dict(given))
            with Image.open(path) as made:
                info = metadata.read(made).info
            recipe = {key: value for key, value in info.items() if not isinstance(value, list | dict)}
            return path, json.dumps(recipe, ensure_ascii=False)
        except Exception as error:
            raise gr.Error(runs.in_words(error), print_exception=False) from error

    tool.__name__ = kind.kind
    return tool


def _painted(engine: Any, jobs: Jobs | None, task: Task) -> str:
    """The file of the task's picture, painted in its turn."""
    if jobs is None:
        *_, report = (message for message in runs.work(engine, task) if message)
        return report["pictures"][0]["file"]["path"]
    *_, job = jobs.watch(jobs.submit(task).id)
    if job.error is not None:
        raise job.error
    if job.state != DONE or job.report is None:
        raise runs.RunError("The picture was cancelled before it was done.")
    return job.report["pictures"][0]["file"]["path"]
