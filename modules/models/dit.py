"""DiT answers here: a class and no words, eps from a transformer, Stable Diffusion's latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from modules.models.conditioning import Conditions
from modules.models.pipelines import PipelineModel, Told, expanded
from modules.tasks import ClassConditional, Task, TaskError, not_one_of


class DiT(PipelineModel):
    """A DiTPipeline's networks (Peebles and Xie 2023)."""

    @torch.no_grad()
    def conditions(self, task: Task, timesteps: Sequence[float] = (), scene: Any = None) -> Conditions:
        """The class with its weight, over no class; TaskError for words, and for an unknown class."""
        del timesteps, scene
        assert isinstance(task, ClassConditional)  # the card serves no other kind
        for name in ("prompt", "negative_prompt"):
            if getattr(task, name).strip():
                raise TaskError(name, f"{name} must be empty: {self.card.title} knows classes and no words.")
        names = self.card.classes()
        if task.class_name not in names:
            raise TaskError("class_name", not_one_of("class_name", task.class_name, names))
        count = self.pipe.transformer.config.num_embeds_ada_norm  # the row after the last stands for no class
        label = self._label(names.index(task.class_name))
        return Conditions(self._label(count), ((label, task.class_scale),))

    def ask(self, x: torch.Tensor, t: float, told: Told) -> torch.Tensor:
        """eps at `x`; the channels after it, a learned variance, are left out."""
        answer = self.pipe.transformer(
            x, timestep=self.timesteps(x, t), class_labels=expanded(told["class_labels"], len(x))
        )
        return answer.sample[:, : x.shape[1]]

    def tokenizer(self) -> Any:
        """None: there are no words."""
        return None

    def _label(self, row: int) -> Told:
        return {"class_labels": torch.tensor([row], device=self.device)}
