"""The model picker: what is here, what could be fetched, at what price, and what follows the model chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modules.tasks import Task
from modules.ui.forms import Form
from modules.ui.toolkit import gr, safe

SUITED = ("width", "height", "steps", "guidance_scale", "sampler", "schedule", "only_masked", "padding")
"""The controls that take the values that suit a model when it is chosen, beside those that its card names."""

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Picker:
    """The list of models, what is told under it, and the answers to an offer."""

    model: gr.Dropdown
    last: gr.State  # the model that the controls were last fitted to
    told: gr.HTML
    yes: gr.Button
    no: gr.Button


class Follower(NamedTuple):
    """A part of the page that follows the model: what it reads, what it sets, and how.

    `answer(model, *inputs)` gives updates for some of `outputs`.
    """

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    answer: Callable[..., dict[Any, Any]]


def draw(engine: Any) -> Picker:
    """The list, and under it an offer if the studio was started with a model that is not here."""
    choices, asked = listed(engine), engine.shelf.asked
    model = gr.Dropdown(
        choices, value=engine.default_model, label="Model", elem_id="model",
        visible=len(choices) > 1, allow_custom_value=not engine.shelf.locked,
        info=None if engine.shelf.locked else "Or a folder, or owner/name of a repository on the hub.",
    )  # fmt: skip
    offered = engine.shelf.offer(asked) if engine.shelf.knows(asked) else None
    words = offered.told if offered else f"{asked} is not here: enter it above to look it up." * bool(asked)
    told = gr.HTML(said(words), elem_id="model-told", elem_classes="aside", apply_default_css=False)
    may = bool(offered and offered.may)
    with gr.Row(elem_classes="pair"):
        yes = gr.Button("Download", elem_id="model-yes", visible=may, size="sm", variant="primary")
        no = gr.Button("No", elem_id="model-no", visible=may, size="sm")
    return Picker(model, gr.State(engine.default_model), told, yes, no)


def listed(engine: Any) -> list[tuple[str, str]]:
    """What the list offers: the models that are here, then what a hub has, with its size."""
    shelf = engine.shelf
    here = [(card.title, id) for id, card in list(shelf.here.items())]  # a download may end meanwhile
    if shelf.locked:
        return here
    others = [card for id, card in shelf.cards.items() if id not in shelf.here]
    others += [each for each in shelf.addons.values() if shelf.adds_to_one(each)]
    return here + [(f"{card.title} (download, {card.download:g} GB)", card.id) for card in others]


def wire(
    engine: Any, picker: Picker, more: gr.Accordion, forms: Mapping[str, Form], followers: Sequence[Follower]
) -> Any:
    """Listens to the list, to the answers to an offer, and to the download that may be running.

    What listens to the list is returned, for what comes after a change of the model.
    """
    shelf, model, offered = engine.shelf, picker.model, gr.State(engine.shelf.asked)
    timer = gr.Timer(1.0, active=False)
    answers = [picker.told, picker.yes, picker.no]

    def changed(name: str, before: str, *values: Any) -> dict[Any, Any]:
        """A model that is here is taken, with what suits it; any other is offered, and the list goes back.

        After a recipe `before` is its model already, and what it brought stays.
        """
        if name in engine.catalog:
            follows = followed(followers, name, values)
            if name == before:
                return follows
            arrived = shelf.progress()
            news = arrived.told if arrived and (arrived.id, arrived.phase) == (name, "done") else ""
            return both(follows, suited(engine, forms, name)) | {picker.last: name} | _told(picker, news)
        back: dict[Any, Any] = {model: gr.update(choices=listed(engine), value=before)}
        try:
            offer = shelf.offer(name or before)
        except (ValueError, RuntimeError) as refusal:
            return back | _told(picker, str(refusal))
        if offer.id in shelf.here:  # a folder that was named, from now on in the list
            return {model: gr.update(choices=listed(engine), value=offer.id)}
        if offer.state == "here":
            shelf.refresh()
            return back | _told(picker, f"{offer.title} is here already.")
        return back | {offered: offer.id} | _told(picker, offer.told, yes="Download" if offer.may else "")

    def begin(wanted: str) -> dict[Any, Any]:
        try:
            shelf.fetch(wanted)
        except RuntimeError as refusal:
            return _told(picker, str(refusal))
        return {timer: gr.Timer(active=True)} | progress()

    def stop() -> dict[Any, Any]:
        running = shelf.progress()
        if running and running.phase == "running":
            shelf.stop()
            return _told(picker, "Stopping…")
        return _told(picker, "")

    def progress() -> dict[Any, Any]:
        """How the download stands; a model that has arrived is chosen."""
        now = shelf.progress()
        if now and now.phase == "running":
            return _told(picker, now.told, no="Stop", share=(now.done, now.total))
        updates: dict[Any, Any] = {timer: gr.Timer(active=False)}
        if now and now.phase == "done":
            value = {"value": now.id} if now.id in shelf.here else {}
            updates |= {model: gr.update(choices=listed(engine), **value)} | _told(picker, now.told)
        elif now:
            again = {"failed": "Try again", "stopped": "Go on"}[now.phase]
            updates |= {offered: now.id} | _told(picker, now.told, yes=again)
        return updates

    def opened() -> dict[Any, Any]:
        now = shelf.progress()
        updates: dict[Any, Any] = {model: gr.update(choices=listed(engine))}
        if now and now.phase == "running":
            updates |= {timer: gr.Timer(active=True)} | _told(picker, now.told, no="Stop")
        return updates

    fields = [part for form in forms.values() for part in form.fields.values()]
    following = [part for follower in followers for part in follower.outputs]
    sets = list(dict.fromkeys([model, picker.last, offered, *answers, *fields, *following]))
    reads = [part for follower in followers for part in follower.inputs]
    taken = model.change(changed, [model, picker.last, *reads], sets, trigger_mode="always_last", **QUIET)
    picker.yes.click(begin, offered, [model, offered, timer, *answers], **QUIET)
    picker.no.click(stop, None, answers, **QUIET)
    timer.tick(progress, None, [model, offered, timer, *answers], **QUIET)
    more.expand(opened, None, [model, timer, *answers], **QUIET)
    return taken


def followed(followers: Sequence[Follower], model: str, values: Sequence[Any]) -> dict[Any, Any]:
    """What every follower sets, each given its own share of the values that all read together."""
    updates: dict[Any, Any] = {}
    for follower in followers:
        count = len(follower.inputs)
        updates = both(updates, follower.answer(model, *values[:count]))
        values = values[count:]
    return updates


def both(first: Mapping[Any, Any], then: Mapping[Any, Any]) -> dict[Any, Any]:
    """Two sets of updates as one; of what both say of a component, the later."""
    joined = dict(first)
    for part, update in then.items():
        old = joined.get(part)
        joined[part] = {**old, **update} if isinstance(old, dict) and isinstance(update, dict) else update
    return joined


def suited(engine: Any, forms: Mapping[str, Form], model: str) -> dict[Any, Any]:
    """Updates that bring the controls to what suits a model; words and pictures stay."""
    card = engine.card(model)
    updates: dict[Any, Any] = {}
    for form in forms.values():
        for name, part in form.fields.items():
            if name in SUITED or name in card.defaults:
                updates[part] = gr.update(**_fitted(engine, form.kind, name, model))
    return updates


def tabs(engine: Any, names: Sequence[str], chooser: gr.Tabs, opened: Any) -> Follower:
    """Only the tabs that the model serves are shown; if the open one goes, the first that stays opens.

    With a tab goes the button that sends a picture there.

    By a style sheet: gradio 6.31 now and then ignores a change of a tab's `visible`.
    """
    sheet = gr.HTML(
        _hiding(engine, names, engine.default_model), elem_id="tabs-shown", apply_default_css=False
    )

    def answer(model: str, now: str) -> dict[Any, Any]:
        updates: dict[Any, Any] = {sheet: _hiding(engine, names, model)}
        stay = [name for name in names if name in engine.card(model).tasks]
        if stay and now not in stay:
            updates[chooser] = gr.Tabs(selected=stay[0])
        return updates

    return Follower([opened], [sheet, chooser], answer)


def _hiding(engine: Any, names: Sequence[str], model: str) -> str:
    serves = engine.card(model).tasks
    of_tab = '#tabs button[data-tab-id="{0}"],#gallery .send[data-to="{0}"]'
    hidden = ",".join(of_tab.format(name) for name in names if name not in serves)
    return f"<style>{hidden} {{display: none}}</style>" if hidden else ""


def said(words: str, share: tuple[int, int] | None = None) -> str:
    """What stands under the list, and how much of a download is here."""
    if not words:
        return ""
    bar = f'<progress max="{share[1]}" value="{share[0]}"></progress>' if share and share[1] else ""
    return f'<p role="status">{safe(words)}</p>{bar}'


def _told(
    picker: Picker, words: str, *, yes: str = "", no: str = "", share: tuple[int, int] | None = None
) -> dict[Any, Any]:
    no = no or ("No" if yes else "")
    return {
        picker.told: said(words, share),
        picker.yes: gr.update(value=yes or "Download", visible=bool(yes)),
        picker.no: gr.update(value=no or "No", visible=bool(no)),
    }


def _fitted(engine: Any, kind: type[Task], name: str, model: str) -> dict[str, Any]:
    value = engine.default(kind, name, model)
    if name == "schedule":
        sampler = engine.default(kind, "sampler", model)
        return {"choices": engine.spacings(sampler, model), "value": value}
    if name in ("width", "height"):
        low, high, step = engine.limits(kind, name, model)
        return {"minimum": low, "maximum": high, "step": step, "value": min(max(value, low), high)}
    return {"value": value}
