"""The fold where a picture's recipe is run again and compared, written as Python, or saved otherwise."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from modules import images, metadata
from modules.engine.jobs import DONE, FAILED, OVER, JobError, Jobs
from modules.engine.replay import Comparison, ReplayError, compared, task_of
from modules.ui import gallery, runs
from modules.ui.api import spoken
from modules.ui.history import Answer, in_words, owner_name
from modules.ui.painter import uploaded
from modules.ui.toolkit import gr, on_gpu, served, served_picture

HERE = Path(__file__).parent


def replay(engine: Any, jobs: Jobs | None) -> gr.HTML:
    """The component; without `jobs`, where a run lives as long as its press, it cannot run anything again."""
    template = (HERE / "replay.html").read_text(encoding="utf-8")
    return gr.HTML(
        value={},
        html_template=template.replace("<!-- hidden -->", "" if jobs else "hidden"),
        js_on_load=(HERE / "replay.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="replay",
        server_functions=[in_words(answer) for answer in answers(engine, jobs)],
    )


def answers(engine: Any, jobs: Jobs | None) -> list[Answer]:
    """What the fold may ask for, each a function of the question as the browser sent it."""

    def write_python(asked: Mapping[str, Any]) -> dict[str, Any]:
        _, recipe = opened(uploaded("picture", asked.get("path")))
        return {"code": python_of(engine, recipe)}

    def save_as(asked: Mapping[str, Any]) -> dict[str, Any]:
        picture, recipe = opened(uploaded("picture", asked.get("path")))
        folder = Path(tempfile.mkdtemp(prefix="epsilon-"))
        form = "webp" if asked.get("form") == "webp" else "jpg"
        try:
            made = folder / f"{Path(str(asked.get('path'))).stem}.{form}"
            metadata.write(picture, made, told(recipe), int(recipe.info.get("index", 0)))
            return {"path": str(served(made))}
        finally:
            shutil.rmtree(folder)

    def run_again(asked: Mapping[str, Any]) -> dict[str, Any]:
        assert jobs is not None
        task, index = task_of(opened(uploaded("picture", asked.get("path")))[1])
        return {"run": jobs.submit(task, owner_name(asked.get("owner"))).id, "index": index}

    def how_it_went(asked: Mapping[str, Any]) -> dict[str, Any]:
        assert jobs is not None
        job = jobs.get(str(asked.get("run")))
        if job.owner != owner_name(asked.get("owner")):
            raise JobError("There is no such job.")
        if job.state not in OVER:
            return {
                "going": f"Waiting, number {job.position} in line…" if job.position else "Running it again…"
            }
        if job.state != DONE or job.report is None:
            return {"refused": str(job.error) if job.state == FAILED else "It was stopped."}
        path = job.report["pictures"][int(asked.get("index") or 0)]["file"]["path"]
        (one, then), (other, now) = opened(uploaded("picture", asked.get("path"))), opened(Path(path))
        return shown(compared(one, other, then.info, now.info)) | {"path": path}

    return [write_python, save_as, *([run_again, how_it_went] if jobs else [])]


def opened(path: str | Path) -> tuple[Image.Image, metadata.Recipe]:
    """A picture's pixels and its recipe; PictureError, in words, if it is none."""
    picture = images.open_picture(path)
    with Image.open(path, formats=images.FORMATS) as file:
        return picture, metadata.read(file)


def told(recipe: metadata.Recipe) -> Mapping[str, Any]:
    """The whole info; ReplayError for a picture that was not made here."""
    if not recipe.info:
        raise ReplayError("Only a picture that was made here says enough for that.")
    return recipe.info


def python_of(engine: Any, recipe: metadata.Recipe) -> str:
    """The script of plain diffusers that makes a picture; ScriptError where there can be none."""
    return engine.script(told(recipe), int(recipe.info.get("index", 0)))


def shown(found: Comparison) -> dict[str, Any]:
    """A comparison for the page."""
    heat = found.heat and gallery.data_url(found.heat)
    return {"sentence": found.sentence(), "identical": found.identical, "fields": found.fields, "heat": heat}


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison for a client: numbers, and the fields that differ."""
    differ = [field._asdict() for field in found.fields]
    return {
        "identical": found.identical, "same_size": found.same_size, "pixels_differing": found.count,
        "pixels": found.total, "largest_difference": found.largest, "fields": differ,
        "sentence": found.sentence(),
    }  # fmt: skip


def add_endpoints(engine: Any) -> None:
    """Adds /replay, /compare and /script, which take picture files. Call inside gr.Blocks."""
    picture, before, after = (
        gr.File(type="filepath", visible=False, label=label) for label in ("picture", "before", "after")
    )
    files = gr.File(visible=False, file_count="multiple", label="images")
    info, code = gr.JSON(visible=False, label="info"), gr.Textbox(visible=False, label="code")

    def replay(picture: str) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Runs a picture's recipe again: the new picture, and how its pixels and its recipe differ.

        The files are the new picture and, where pixels differ, a heat map of where.
        """
        with spoken():
            one, recipe = opened(picture)
            task, index = task_of(recipe)
            with closing(engine.run(task)) as events:
                for event in events:
                    if not hasattr(event, "images"):
                        yield None, {"step": event.index + 1, "of": event.total}
                        continue
                    found = compared(one, event.images[index], recipe.info, event.info)
                    made = [runs.kept(engine, event)[index], *_heat(found)]
                    yield [str(path) for path in made], as_json(found) | {"info": event.info}

    def compare(before: str, after: str) -> tuple[list[str], dict[str, Any]]:
        """How two pictures differ, in pixels and in their recipes. The file is a heat map, if any."""
        with spoken():
            (one, then), (other, now) = opened(before), opened(after)
            found = compared(one, other, then.info, now.info)
            return [str(path) for path in _heat(found)], as_json(found)

    def script(picture: str) -> str:
        """A Python script of plain diffusers that makes the same picture without this app."""
        with spoken():
            return python_of(engine, opened(picture)[1])

    for fn, inputs, outputs in (
        (on_gpu(replay), [picture], [files, info]),
        (compare, [before, after], [files, info]),
        (script, [picture], [code]),
    ):
        how: dict[str, Any] = {"concurrency_id": "gpu"} if inspect.isgeneratorfunction(fn) else {}
        gr.Button(visible=False).click(
            fn, inputs, outputs, api_name=fn.__name__, show_progress="hidden", **how
        )


def _heat(found: Comparison) -> list[Path]:
    return [served_picture(found.heat)] if found.heat else []
