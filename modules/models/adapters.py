"""A model dressed for one job: the adapters that a task asks for are put on, and come off with the job."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from modules.conditions.tags import LoraTag, taken_out
from modules.images import open_picture
from modules.models.conditioning import Condition, Conditions, stacked
from modules.models.embeddings import teach
from modules.models.image_prompt import IpAdapter, Sighted, load_ip_adapter
from modules.models.latent import LatentModel
from modules.models.lora import from_tensors, put_on, read_file
from modules.models.maps import Control
from modules.models.wardrobe import Sight, Wardrobe, no_sight, short_hash
from modules.tasks import Task, TaskError


def dressing(model: Any, wardrobe: Wardrobe) -> Any:
    """The model as it is, except that it puts on what a task asks for when it is asked for its conditions.

    Weights are never touched: adapters are computed beside them. A model of another kind stays as it is.
    """
    if not isinstance(model, LatentModel):
        return model
    own = {each.name: getattr(model, each.name) for each in dataclasses.fields(model)}
    return Dressed(**own, wardrobe=wardrobe)


@contextmanager
def undressed_after(model: Any) -> Iterator[Any]:
    """When the context ends, however it does, the model wears nothing."""
    try:
        yield model
    finally:
        if isinstance(model, Dressed):
            model.worn.close()


@dataclass(frozen=True, kw_only=True)
class Dressed(LatentModel):
    """A LatentModel with adapters out of a wardrobe, those of its last task, until `worn` is closed."""

    wardrobe: Wardrobe
    worn: ExitStack = field(default_factory=ExitStack)
    sights: dict[Sight, IpAdapter] = field(default_factory=dict)  # the one that was used last, kept
    looking: list[torch.Tensor | None] = field(default_factory=lambda: [None])  # what it looks at now

    def conditions(self, task: Task, timesteps: Sequence[float] = (), *where: Any, **how: Any) -> Conditions:
        """As LatentModel's, of the words alone, under the adapters that the task asks for.

        TaskError for one that is not there, LoadError for one that does not fit this model.
        """
        self.worn.close()
        words, tags = taken_out(task)
        record = [self._wear(tag) for tag in tags]
        called = self.wardrobe.called(words)
        teach(encoders(self), called, self.card.title, self.worn)
        record += [{"kind": "embedding", "name": n, "hash": short_hash(path)} for n, path in called.items()]
        found = super().conditions(words, timesteps, *where, **how)
        if task.image_prompt is not None and task.image_prompt_scale != 0:
            found, told = self._look(found, task)
            record.append(told)
        return dataclasses.replace(found, record={**found.record, "adapters": record}) if record else found

    def predict(
        self, x: torch.Tensor, t: float, conditions: Sequence[Condition], controls: Sequence[Control] = ()
    ) -> torch.Tensor:
        """As LatentModel's; each copy looks at the picture of its own condition."""
        pictures = [each.image for each in conditions if isinstance(each, Sighted)]
        self.looking[0] = stacked(pictures, len(x) // len(conditions))
        return super().predict(x, t, conditions, controls)

    def _look(self, found: Conditions, task: Task) -> tuple[Conditions, dict[str, Any]]:
        """One more weighted condition: the base, and the picture. All others see the tokens of no picture."""
        files = self.wardrobe.sight(self.card)
        if files is None:
            raise TaskError("image_prompt", no_sight(self.card.title))
        if files not in self.sights:
            self.sights.clear()
            self.sights[files] = load_ip_adapter(files, self.unet, self.card.title)
        adapter, picture = self.sights[files], open_picture(task.image_prompt)
        adapter.put_on(self.unet, self._seen, self.worn)
        tokens, none = adapter.tokens(picture)
        weighted = [(_sighted(one, none), weight) for one, weight in found.weighted]
        weighted.append((_sighted(found.base, tokens), task.image_prompt_scale))
        told = {
            "kind": "ip_adapter",
            "name": files.weights.stem,
            "weight": task.image_prompt_scale,
            "hash": adapter.hash,
            "picture": hashlib.sha256(picture.tobytes()).hexdigest(),
        }
        return dataclasses.replace(found, base=_sighted(found.base, none), weighted=tuple(weighted)), told

    def _seen(self) -> torch.Tensor:
        assert self.looking[0] is not None
        return self.looking[0]

    def _wear(self, tag: LoraTag) -> dict[str, Any]:
        path = self.wardrobe.lora(tag.name)
        networks = {"unet": self.unet} | {
            f"text_encoder{'_2' * i}": encoder.network for i, encoder in enumerate(encoders(self))
        }
        weights = dict.fromkeys(networks, tag.text_weight) | {"unet": tag.weight}
        put_on(from_tensors(path.stem, *read_file(path)), networks, weights, self.card.title, self.worn)
        told = {"kind": "lora", "name": path.stem, "weight": tag.weight}
        if tag.text_weight != tag.weight:
            told["text_weight"] = tag.text_weight
        return told | {"hash": short_hash(path, whole=False)}


def _sighted(condition: Condition, image: torch.Tensor) -> Sighted:
    own: dict[str, Any] = {each.name: getattr(condition, each.name) for each in dataclasses.fields(condition)}
    return Sighted(**own, image=image)


def encoders(model: LatentModel) -> list[Any]:
    """The text encoders of a model, in diffusers' order; each has a network and a tokenizer."""
    text: Any = model.text
    return [text.first, text.second] if hasattr(text, "first") else [text]
