"""LoRAs and embeddings to add to a prompt, and a picture to take after: shown only where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modules.ui.forms import Maker
from modules.ui.painter import painter
from modules.ui.toolkit import gr


@dataclass(frozen=True)
class Adapters:
    """The dropdown of what a prompt may ask for, if there is anything, and the fields of the image prompt."""

    chooser: gr.Dropdown | None
    fields: Mapping[str, Any]

    def wire(self, open_tab: Any, prompts: Mapping[str, Any]) -> None:
        """Writes what is chosen at the end of the open tab's prompt; `prompts` are the boxes by tab."""
        if self.chooser is None:
            return

        def add(chosen: str | None, tab: str, *texts: str) -> dict[Any, Any]:
            prompt, text = prompts[tab], dict(zip(prompts, texts, strict=True))[tab]
            written = added(text, chosen) if chosen else text
            return {prompt: written, self.chooser: None}

        self.chooser.input(
            add,
            [self.chooser, open_tab, *prompts.values()],
            [self.chooser, *prompts.values()],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def draw(make: Maker) -> Adapters:
    """The dropdown, and behind a fold the picture and its weight; each where it can be used."""
    engine, chooser = make.engine, None
    if offers := engine.adapters():
        chooser = gr.Dropdown(
            offers,
            value=None,
            label="Add a LoRA or an embedding",
            info="It is written into the prompt; the number after a LoRA's name is its weight.",
            elem_id="adapters",
        )
    if not any(engine.sees(model) for model in engine.catalog):
        return Adapters(chooser, {})
    with gr.Accordion("Image prompt", open=False, elem_id="image-prompt-fold"):
        easel = painter("image-prompt-easel", masked=False)
        scale = make.slider("image_prompt_scale", "Image guidance", reach=15, info="0 ignores the picture.")
    return Adapters(chooser, {"image_prompt": easel, "image_prompt_scale": scale})


def added(prompt: str, words: str) -> str:
    """The prompt with a tag or a name at its end."""
    prompt = prompt.rstrip()
    if not prompt:
        return words
    return f"{prompt} {words}" if words.startswith("<lora:") or prompt.endswith(",") else f"{prompt}, {words}"
