"""A press on Generate hands the request in to the line of jobs, or paints in the call itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from modules.engine.jobs import Jobs
from modules.ui import gallery, history, runs
from modules.ui.forms import Form
from modules.ui.toolkit import gr, on_gpu

if TYPE_CHECKING:
    from modules.ui.page import Page

OWNED = "(...sent) => [...sent.slice(0, -1), window.epsilon.owner()]"  # the browser's own name, sent along


def hands_in(page: Page, jobs: Jobs) -> None:
    """Every press becomes a job, which a reload of the page does not end."""

    def submitted(form: Form, *sent: Any) -> dict[str, Any]:
        *values, owner = sent
        try:
            jobs.submit(page.explorer.asked(form, values), history.owner_name(owner))
        except Exception as error:
            return gallery.refused(runs.in_words(error))
        return gallery.accepted()

    for name, form in page.forms.items():
        page.generate[name].click(
            partial(submitted, form),
            [*form.fields.values(), *page.explorer.parts, page.owner],
            page.gallery,
            js=OWNED,
            queue=False,
            trigger_mode="multiple",
            show_progress="hidden",
            api_visibility="private",
        )


def paints(page: Page) -> None:
    """The press itself paints, in the one call for which a GPU is lent, until Cancel is pressed."""
    buttons = [*page.generate.values(), *page.cancel.values()]
    pressed: list[Any] = [
        page.generate[name].click(
            on_gpu(_painter(page, form)),
            [*form.fields.values(), *page.explorer.parts, page.owner],
            [page.gallery, page.panel.plot, *buttons],
            js=OWNED,
            show_progress="hidden",
            concurrency_id="gpu",
            concurrency_limit=1,
            api_visibility="private",
        )
        for name, form in page.forms.items()
    ]
    for run in pressed:  # only now: a press while gradio still ends the run before is lost
        run.then(
            partial(_busy, page, False),
            None,
            buttons,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    gr.on(
        [button.click for button in page.cancel.values()],
        gallery.stopped,
        None,
        page.gallery,
        cancels=pressed,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def _painter(page: Page, form: Form) -> Callable[..., Iterator[dict[Any, Any]]]:
    def paint(*sent: Any) -> Iterator[dict[Any, Any]]:
        *values, owner = sent
        try:
            task = page.explorer.asked(form, values)
            walk = runs.walk(page.engine, task)
        except ValueError as refusal:
            yield {page.gallery: gallery.refused(str(refusal))}
            return
        run = secrets.token_hex(4)  # tells a late step of a stopped run from a step of the next
        begin = gallery.waiting("Starting…") | {"run": run}
        yield {page.gallery: begin, page.panel.plot: walk or gr.skip()} | _busy(page, True)
        with closing(runs.paint(page.engine, task, history.owner_name(owner))) as messages:
            for message in messages:
                yield {page.gallery: message | {"run": run}}

    return paint


def _busy(page: Page, busy: bool) -> dict[Any, Any]:
    shown = {button: gr.update(visible=not busy) for button in page.generate.values()}
    return shown | {button: gr.update(visible=busy) for button in page.cancel.values()}
