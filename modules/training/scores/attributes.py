"""Whether Pocket paints what it is asked for: things, colours, counts, places, styles, classes, synonyms."""

from pathlib import Path
from typing import Any

import numpy as np

from modules.models.latent import LatentModel
from modules.training.scores.asking import answers, shares
from modules.training.scores.painting import paint
from modules.training.scores.prompts import SETS, some
from modules.training.scores.sheets import contact_sheet

SHOWN = 24  # of each set, on its sheet


def attributes(model: LatentModel, name: str, share: float, out: Path) -> dict[str, Any]:
    """The scores of one set of requests, and a sheet of its first pictures with what was seen in them."""
    asked = some(list(SETS[name]()), share)
    pictures = paint(model, [one.task for one in asked])
    told = answers(pictures, [one.wanted for one in asked])
    titles = [f"{title(one.task)} {marks(right)}" for one, right in zip(asked, told)]
    at = np.linspace(0, len(asked) - 1, min(SHOWN, len(asked))).astype(int)
    contact_sheet([pictures[i] for i in at], [titles[i] for i in at], 8, 160, lines=2).save(
        out / f"{name.replace(' ', '-')}.jpg", quality=85
    )
    scores: dict[str, Any] = shares(told)
    if name == "classes and words":
        both = [right["thing"] and right["colour"] and right["ground"] for right in told]
        scores["all three"] = {"right": round(float(np.mean(both)), 3), "pictures": len(both)}
    return scores


def title(task: Any) -> str:
    """What was asked for, in short."""
    token = getattr(task, "class_name", "")
    return task.prompt + (f" [{token}]" if token else "")


def marks(right: dict[str, bool]) -> str:
    """The measures that do not hold, struck; nothing where all is right."""
    return " ".join(f"-{name}" for name, holds in right.items() if not holds)
