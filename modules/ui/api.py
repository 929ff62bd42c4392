"""The named endpoints: a Task's fields by name in, files and info out; for gradio_client, REST and MCP."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from PIL import Image

from modules import images, metadata
from modules.engine.jobs import DONE, Jobs
from modules.tasks import KINDS, Inpaint, Task
from modules.ui import runs, tools
from modules.ui.history import owner_name
from modules.ui.toolkit import gr, on_gpu


def add_endpoints(engine: Any, jobs: Jobs | None = None, *, mcp: bool = False) -> None:
    """Adds an endpoint for every kind of Task, /snr_curve, /models; with `jobs` /submit, /job and /cancel.

    With `mcp` the kinds are tools besides, see tools.py; what answers at once is a tool as it is.

    Call inside gr.Blocks.

    The components are hidden, one a field name, and belong to the endpoints alone, so that what the page
    offers (its sliders' reach, its dropdowns' choices) never decides what the API accepts: the Task does.
    """
    hidden: dict[tuple[str, Any], Any] = {}  # by name and default: kinds share what they have in common
    files = gr.File(visible=False, file_count="multiple", label="images")
    told = gr.JSON(visible=False, label="info")

    def shared(kind: type[Task], field: dataclasses.Field[Any]) -> Any:
        value = engine.default(kind, field.name)
        if (field.name, value) not in hidden:
            hidden[field.name, value] = _input(field, value)
        return hidden[field.name, value]

    if mcp:
        tools.add_tools(engine, jobs, shared, _signed)
    for name, kind in KINDS.items():
        inputs = {field.name: shared(kind, field) for field in dataclasses.fields(kind)}
        paint = tools.no_tool(on_gpu(_painter(engine, kind, [*inputs])))
        _listen(paint, [*inputs.values()], [files, told], name, concurrency_id="gpu")
    names = ["sampler", "schedule", "steps", "model", "strength"]
    curve_inputs = [hidden[name, engine.default(Inpaint, name)] for name in names]
    sizes = {name: _input(Inpaint.__dataclass_fields__[name], None) for name in ("width", "height")}
    curve = _curve(engine, [*names, *sizes])
    _listen(curve, [*curve_inputs, *sizes.values()], [told], "snr_curve", queue=False)
    _listen(_models(engine), [], [told], "models", queue=False)
    if jobs is not None:
        _add_job_endpoints(jobs, files, told)


def _add_job_endpoints(jobs: Jobs, files: Any, told: Any) -> None:
    """A press in three parts, for clients that cannot keep a connection open."""
    id, kind = (gr.Textbox(visible=False, label=label) for label in ("id", "kind"))
    owner = gr.Textbox("", visible=False, label="owner: whose history the pictures go into")
    fields = gr.JSON(visible=False, label="fields")

    def submit(kind: str, fields: dict[str, Any], owner: str = "") -> dict[str, Any]:
        """Queues a task without pictures: its kind, and its fields as JSON. Answers at once, with an id."""
        with spoken():
            task = Task.from_json(json.dumps({**(fields or {}), "kind": kind}))
            return {"id": jobs.submit(task, owner_name(owner)).id}

    def job(id: str) -> tuple[list[str] | None, dict[str, Any]]:
        """How a job stands: its state, place in line, seconds left if known; at the end files and info."""
        with spoken():
            seen = jobs.get(id)
            state = {"state": seen.state, "position": seen.position, "seconds": seen.seconds}
            if seen.error is not None:
                return None, state | {"error": str(seen.error)}
            if seen.state != DONE or seen.report is None:
                return None, state | {"share": (seen.report or {}).get("share", 0)}
            paths = [picture["file"]["path"] for picture in seen.report["pictures"]]
            with Image.open(paths[0]) as first:
                return paths, state | {"info": dict(metadata.read(first).info)}

    def cancel(id: str) -> dict[str, Any]:
        """Stops a job, within one step if it runs; says whether there was anything to stop."""
        return {"cancelled": jobs.cancel(id)}

    _listen(submit, [kind, fields, owner], [told], "submit", queue=False)
    _listen(job, [id], [files, told], "job", queue=False)
    _listen(cancel, [id], [told], "cancel", queue=False)


@contextmanager
def spoken() -> Iterator[None]:
    """What fails inside is one sentence for the client."""
    try:
        yield
    except Exception as error:
        raise gr.Error(runs.in_words(error), print_exception=False) from error


def _listen(fn: Callable[..., Any], inputs: list[Any], outputs: list[Any], name: str, **how: Any) -> None:
    gr.Button(visible=False).click(fn, inputs, outputs, api_name=name, show_progress="hidden", **how)


def _input(field: dataclasses.Field[Any], value: Any) -> Any:
    """A hidden component that passes the field's value on as it came; `value` is the endpoint's default."""
    how: dict[str, Any] = {"label": field.metadata.get("help", field.name), "visible": False}
    if "picture" in field.metadata:
        return gr.File(type="filepath", **how)
    if isinstance(value, bool):
        return gr.Checkbox(value=value, **how)
    if isinstance(value, int | float) or "limits" in field.metadata:
        return gr.Number(value=value, **how)
    return gr.Textbox(value=value, **how)


def _signed(fn: Callable[..., Any], names: list[str], doc: str) -> Callable[..., Any]:
    """The same function with these parameter names, which is where gradio reads the API's names.

    All may be left out: a scalar's default is then the value of its hidden component.
    """
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    fn.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(name, plain, default=None) for name in names]
    )
    fn.__doc__ = doc
    return fn


def _painter(engine: Any, kind: type[Task], names: list[str]) -> Callable[..., Any]:
    pictures = tuple(name for name in names if "picture" in kind.__dataclass_fields__[name].metadata)

    def paint(*values: Any) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        try:
            named = dict(zip(names, values, strict=True))
            for name in pictures:
                read = images.open_mask if name == "mask" else images.open_picture
                named[name] = read(named[name]) if named[name] else None
            task = kind.from_dict(_given(named))
            with closing(engine.run(task)) as events:
                for event in events:
                    if hasattr(event, "images"):
                        yield [str(path) for path in runs.kept(engine, event)], event.info
                    else:
                        yield None, {"step": event.index + 1, "of": event.total}
        except Exception as error:
            raise gr.Error(runs.in_words(error), print_exception=False) from error

    paint.__name__ = kind.kind
    return _signed(paint, names, inspect.getdoc(kind) or "")


def _given(named: dict[str, Any]) -> dict[str, Any]:
    """Without what was sent as null, which means the Task's default."""
    return {name: value for name, value in named.items() if value is not None}


def _curve(engine: Any, names: list[str]) -> Callable[..., Any]:
    def snr_curve(*values: Any) -> dict[str, Any]:
        try:
            given = _given(dict(zip(names, values, strict=True)))
            task = Inpaint(**given)
            size = {name: given[name] for name in ("width", "height") if name in given}
            return engine.snr_curve(
                task.sampler, task.schedule, task.steps, task.model, task.strength, **size
            )
        except Exception as error:
            raise gr.Error(runs.in_words(error), print_exception=False) from error

    doc = "The noise levels of training, and those that a sampler visits; no model is loaded for it."
    return _signed(snr_curve, names, doc)


def _models(engine: Any) -> Callable[[], list[dict[str, Any]]]:
    def models() -> list[dict[str, Any]]:
        """Every model that the studio knows: which are here, what each serves, what the others would take."""
        return engine.shelf.listing()

    return models
