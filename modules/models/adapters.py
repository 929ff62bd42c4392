"""A model dressed for one job: the adapters that a task asks for are put on, and come off with the job."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from modules.conditions.tags import LoraTag, taken_out
from modules.models.embeddings import teach
from modules.models.latent import Conditions, LatentModel
from modules.models.lora import from_tensors, put_on, read_file
from modules.models.wardrobe import Wardrobe, short_hash
from modules.tasks import Task


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
        return dataclasses.replace(found, record={**found.record, "adapters": record}) if record else found

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


def encoders(model: LatentModel) -> list[Any]:
    """The text encoders of a model, in diffusers' order; each has a network and a tokenizer."""
    text: Any = model.text
    return [text.first, text.second] if hasattr(text, "first") else [text]
