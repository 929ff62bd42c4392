"""The drawer of earlier pictures below the frame: its component, and the answers to what history.js asks.

The script asks by name (gradio's server functions), so the drawer needs no listener. A browser is known by
the owner's name that it keeps; who sees what is for the engine's history to decide. Thumbnails travel inside
the answers, so nothing of a picture is left in a cache before it is opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from modules.engine.history import HistoryError, Query
from modules.ui import gallery, runs
from modules.ui.toolkit import gr, served

HERE = Path(__file__).parent
PAGE = 24
MOST = 1000  # pictures deleted or exported at once
LONGEST_OWNER = 64


def history(engine: Any) -> gr.HTML:
    """The component over the engine's history."""
    return gr.HTML(
        value={},
        html_template=(HERE / "history.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "history.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="history",
        server_functions=[in_words(answer) for answer in answers(engine)],
    )


def owner_name(said: Any) -> str:
    """The owner's name that a browser sent, as text of a bounded length."""
    return said[:LONGEST_OWNER] if isinstance(said, str) else ""


Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


def in_words(answer: Answer) -> Answer:
    """The same answer, or the sentence that says why there is none."""

    @wraps(answer)
    def told(asked: Any) -> dict[str, Any]:
        try:
            return answer(asked if isinstance(asked, dict) else {})
        except Exception as error:
            return {"refused": runs.in_words(error)}

    return told


def answers(engine: Any) -> list[Answer]:
    """What the drawer may ask for, each a function of the question as the browser sent it."""
    kept = engine.history

    def find_pictures(asked: Mapping[str, Any]) -> dict[str, Any]:
        owner, query, after = owner_name(asked.get("owner")), query_of(asked), asked.get("after")
        entries = kept.search(query, owner, (float(after[0]), str(after[1])) if after else None, PAGE)
        total = kept.count(query, owner)
        return {
            "entries": [
                entry._asdict() | {"seed": str(entry.seed), "thumbnail": gallery.jpeg_url(entry.thumbnail)}
                for entry in entries
            ],
            "total": total,
            "any": bool(total or kept.count(Query(), owner)),
            "choices": kept.choices(owner),
        }

    def open_picture(asked: Mapping[str, Any]) -> dict[str, Any]:
        path, info, index = kept.read(str(asked.get("name")), owner_name(asked.get("owner")))
        try:
            return {"picture": runs.shown(served(path), info, index)}
        except FileNotFoundError:
            raise HistoryError("The file of that picture is gone.") from None

    def delete_pictures(asked: Mapping[str, Any]) -> dict[str, Any]:
        owner, names = owner_name(asked.get("owner")), names_in(asked)
        for name in names:
            with suppress(HistoryError, FileNotFoundError):  # the copy that was served goes too
                served(kept.read(name, owner).path).unlink(missing_ok=True)
        return {"gone": kept.delete(names, owner)}

    def export_pictures(asked: Mapping[str, Any]) -> dict[str, Any]:
        packed = kept.export(names_in(asked), owner_name(asked.get("owner")))
        try:
            return {"path": str(served(packed))}
        finally:
            shutil.rmtree(packed.parent)

    return [find_pictures, open_picture, delete_pictures, export_pictures]


def query_of(asked: Mapping[str, Any]) -> Query:
    """What the browser looks for."""
    words = {name: str(asked.get(name) or "")[:200] for name in ("words", "kind", "model", "sampler")}
    times = {name: asked[name] for name in ("since", "until") if isinstance(asked.get(name), int | float)}
    return Query(**words, **times)


def names_in(asked: Mapping[str, Any]) -> list[str]:
    """The pictures that a question is about."""
    names = asked.get("names")
    return [str(name) for name in names[:MOST]] if isinstance(names, list) else []
