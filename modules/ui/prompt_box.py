"""The box for a prompt and the line under it: how many tokens it takes, and Improve with its Undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modules.presets import styles
from modules.tasks import TaskError
from modules.ui.forms import Maker
from modules.ui.models import Follower
from modules.ui.toolkit import gr, safe

IMPROVE, UNDO = "Improve", "Undo"
LONGEST_QUOTE = 60
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Line:
    """A box, and what stands under it."""

    prompt: gr.Textbox
    count: gr.HTML
    improve: gr.Button | None


def prompt_box(
    make: Maker, label: str, *, name: str = "prompt", improves: bool = True, **how: Any
) -> dict[str, Any]:
    """Draws the box, which stands for the field `name`, and its "line", for the page to take out and wire."""
    prompt, improve = make.words(name, label, **how), None
    with gr.Row(elem_classes="under-prompt"):
        count = gr.HTML("", elem_classes="token-count", apply_default_css=False)
        if improves:
            improve = gr.Button(IMPROVE, elem_classes="improve", size="sm", scale=0, min_width=0)
    return {name: prompt, "line": Line(prompt, count, improve)}


@dataclass(frozen=True)
class Improved:
    """What stood in the two boxes before Improve, and what it made of them."""

    before: tuple[str, str]
    after: tuple[str, str]


def choices(engine: Any, model: str) -> list[str]:
    """The styles that suit a model, in the order in which they are laid."""
    return [style.name for style in known(engine).of(_family(engine, model))]


def known(engine: Any) -> styles.Styles:
    """The styles that ship, and those of people's own."""
    return styles.read_styles().with_own(engine.own.styles())


def wire(engine: Any, lines: list[Line], model: Any, negative: Any, style: Any) -> Follower:
    """Listens to every box drawn here; `style` is the dropdown of styles, `negative` the prompt to avoid.

    Returns what follows the model: the styles on offer, and the counts of tokens.
    """
    prompts = [each.prompt for each in lines]
    kept = [gr.State(None) for _ in lines]

    def told(model: str, *values: Any) -> dict[Any, Any]:
        updates: dict[Any, Any] = {}
        for each, text, done in zip(lines, values[: len(lines)], values[len(lines) :]):
            updates[each.count] = said(engine, text, model)
            if each.improve is not None:
                updates[each.improve] = UNDO if done and text == done.after[0] else IMPROVE
        return updates

    def changed(model: str, chosen: list[str], *values: Any) -> dict[Any, Any]:
        offered = choices(engine, model)
        still = [name for name in chosen if name in offered]
        return {style: gr.update(choices=offered, value=still)} | told(model, *values)

    shown = [part for each in lines for part in (each.count, each.improve) if part is not None]
    gr.on(
        [prompt.change for prompt in prompts], told, [model, *prompts, *kept], shown,
        trigger_mode="always_last", **QUIET,
    )  # fmt: skip

    def improve(prompt: str, negative: str, chosen: list[str], model: str, done: Improved | None) -> Any:
        if done and prompt == done.after[0]:  # else the words are others by now, and are improved afresh
            return done.before[0], (done.before[1] if negative == done.after[1] else negative), None, IMPROVE
        after = styles.apply(
            chosen or known(engine).fitting(_family(engine, model), prompt), prompt, negative, known(engine)
        )
        if after == (prompt.strip(), negative.strip()):
            return prompt, negative, None, IMPROVE
        return *after, Improved((prompt, negative), after), UNDO

    for each, state in zip(lines, kept):
        if each.improve is not None:
            inputs = [each.prompt, negative, style, model, state]
            each.improve.click(improve, inputs, [each.prompt, negative, state, each.improve], **QUIET)
    return Follower([style, *prompts, *kept], [style, *shown], changed)


def said(engine: Any, prompt: str, model: str) -> str:
    """What stands under a prompt: its tokens and the words cut, or why it is refused; nothing of nothing."""
    if not prompt.strip():
        return ""
    try:
        count = engine.count_tokens(prompt, model)
    except TaskError as refusal:
        return f'<p class="trouble">{safe(str(refusal))}</p>'
    if count is None:
        return ""
    text = f"{count.used} of {count.available} tokens"
    if count.windows > 1:
        text += f", in {count.windows} windows"
    if count.left_out:
        words = " ".join(count.left_out.split())
        quote = words if len(words) <= LONGEST_QUOTE else words[: LONGEST_QUOTE - 1].rsplit(" ", 1)[0] + "…"
        text += f"; cut: “{quote}”"
    return f"<p>{safe(text)}</p>"


def _family(engine: Any, model: str) -> str:
    card = engine.catalog.get(model)
    return card.family if card else ""
