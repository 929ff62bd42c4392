"""Recipes come back to the page: from a preset, from a picture of the gallery or from a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modules.ui import gallery, painter, recipes, saving
from modules.ui.toolkit import gr

if TYPE_CHECKING:
    from modules.ui.page import Page


def wire(page: Page) -> None:
    """A preset, a picture of the gallery and the file of one fill the form; the dice empties the seed."""
    page.dice.click(None, None, page.more["seed"], js="() => ''", api_visibility="private")
    parts = {part: None for form in page.forms.values() for part in form.fields.values()}

    def reuse(event: gr.EventData) -> dict[Any, Any]:
        if kind := event._data.get("send"):
            path = painter.uploaded("image", event._data["path"])
            return {page.chooser: gr.Tabs(selected=kind), page.own[kind]["image"]: painter.holding(path)}
        recipe = json.loads(event._data["recipe"])
        if not event._data["all"]:
            return {page.more["seed"]: str(recipe["seed"])}
        updates, left = _filled(page, recipe["kind"], recipe)
        return updates | ({page.gallery: gallery.note(_told("", left))} if left else {})

    def restore(path: str) -> dict[Any, Any]:
        try:
            task, unread = recipes.from_file(path)
        except ValueError as refusal:
            return {page.gallery: gallery.note(str(refusal))}
        if task is None:
            return {page.gallery: gallery.note("This picture does not say how it was made.")}
        updates, left = _filled(page, task.kind, task.scalars())
        told = _told("The settings of that picture are in the controls now.", [*unread, *left])
        return updates | {page.gallery: gallery.note(told)}

    def begin(name: str, model: str) -> dict[Any, Any]:
        preset = saving.known(page.engine).get(name)
        if preset is None:
            return {page.gallery: gallery.note(f"{name} was deleted meanwhile.")}
        updates, left = recipes.begin(page.engine, page.forms, preset)
        if preset.kind:
            updates[page.chooser] = gr.Tabs(selected=preset.kind)
        if styles := preset.styles_for(page.engine.catalog[model].family):
            updates[page.styles] = styles
        return updates | {page.gallery: gallery.note(_told(preset.about, left))}

    heard: list[tuple[Any, Callable[..., Any], Any]] = [
        (page.preset.input, begin, [page.preset, page.more["model"]]),
        (page.gallery.select, reuse, None),
        (page.restore.upload, restore, page.restore),
        (page.dropped.upload, restore, page.dropped),
    ]
    for event, answer, source in heard:
        event(
            answer,
            source,
            [page.gallery, page.chooser, page.styles, page.picker.last, *parts],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        ).then(**page.foretold)


def _filled(page: Page, kind: str, values: Mapping[str, Any]) -> tuple[dict[Any, Any], list[str]]:
    """Updates that bring the recipe's tab and values onto the page, and what was left out."""
    name = kind if kind in page.forms else next(iter(page.forms))
    updates, left = recipes.fill(page.engine, page.forms[name], values)
    if update := updates.get(page.picker.model):
        updates[page.picker.last] = update["value"]  # so that the recipe's values stay
    return {page.chooser: gr.Tabs(selected=name)} | updates, left


def _told(told: str, left: list[str]) -> str:
    """What was told, and what could not be restored."""
    return f"{told} Left out: {'; '.join(left)}.".strip() if left else told
