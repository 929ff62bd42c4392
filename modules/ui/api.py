"""The named endpoints: a Task's fields by name in, files and info out; for gradio_client, REST and MCP."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from modules import images, tasks
from modules.tasks import KINDS, Task, TaskError, TextToImage
from modules.ui import runs
from modules.ui.toolkit import gr, on_gpu


def add_endpoints(engine: Any) -> None:
    """Adds an endpoint for every kind of Task, and /snr_curve. Call inside gr.Blocks.

    The components are hidden and belong to the endpoints alone, so that what the page offers (its
    sliders' reach, its dropdowns' choices) never decides what the API accepts: the Task does.
    """
    for name, kind in KINDS.items():
        inputs = {field.name: _input(field) for field in dataclasses.fields(kind)}
        outputs = [
            gr.File(visible=False, file_count="multiple", label="images"),
            gr.JSON(visible=False, label="info"),
        ]
        _listen(on_gpu(_painter(engine, kind, list(inputs))), inputs, outputs, name, concurrency_id="gpu")
    curve = {
        name: _input(TextToImage.__dataclass_fields__[name])
        for name in ("sampler", "schedule", "steps", "model")
    }
    curve["strength"] = gr.Number(value=1.0, label="strength", visible=False)
    curve_out = gr.JSON(visible=False, label="curve")
    _listen(_curve(engine, list(curve)), curve, [curve_out], "snr_curve", concurrency_limit=None)


def _listen(
    fn: Callable[..., Any], inputs: dict[str, Any], outputs: list[Any], name: str, **how: Any
) -> None:
    gr.Button(visible=False).click(
        fn, list(inputs.values()), outputs, api_name=name, show_progress="hidden", **how
    )


def _input(field: dataclasses.Field[Any]) -> Any:
    """A hidden component that passes the field's value on as it came."""
    how: dict[str, Any] = {"label": field.metadata.get("help", field.name), "visible": False}
    if "picture" in field.metadata:
        return gr.File(type="filepath", **how)
    if isinstance(field.default, bool):
        return gr.Checkbox(value=field.default, **how)
    if isinstance(field.default, int | float):
        return gr.Number(value=field.default, **how)
    return gr.Textbox(value=field.default, **how)


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
                named[name] = images.open_picture(named[name]) if named[name] else None
            task = kind.from_dict({name: _or_default(kind, name, value) for name, value in named.items()})
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


def _or_default(kind: type[Task], name: str, value: Any) -> Any:
    return tasks.default(kind, name) if value is None else value


def _curve(engine: Any, names: list[str]) -> Callable[..., Any]:
    def snr_curve(*values: Any) -> dict[str, Any]:
        named = dict(zip(names, values, strict=True))
        strength = named.pop("strength")
        try:
            task = TextToImage.from_dict(named)
            if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 1:
                raise TaskError("strength", f"strength is {strength!r}; it must be a number from 0 to 1.")
            return engine.snr_curve(task.sampler, task.schedule, task.steps, task.model, float(strength))
        except Exception as error:
            raise gr.Error(runs.in_words(error), print_exception=False) from error

    doc = "The noise levels of training, and those that a sampler visits; no model is loaded for it."
    return _signed(snr_curve, names, doc)
