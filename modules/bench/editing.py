"""What a control map, a second one and a mask cost, beside a plain picture of the same size and steps."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from PIL import Image

from modules.conditions.depth import depth_map
from modules.conditions.edges import edges
from modules.conditions.pose import draw, named_poses
from modules.engine.generation import generate
from modules.models.latent import LatentModel
from modules.tasks import Controlled, Inpaint, Task, TextToImage

PLAIN = "a plain picture"
PROMPT = "a person in a red shirt on a blue background"


def bench(model: LatentModel, steps: int, repeats: int) -> dict[str, Any]:
    """Median seconds of each kind over interleaved runs, and how many times a plain picture's they are."""
    asked = tasks(model, steps)
    for task in asked.values():  # unmeasured: a ControlNet is loaded when it is first asked for
        _seconds(model, task)
    runs = [{name: _seconds(model, task) for name, task in asked.items()} for _ in range(repeats)]
    seconds = {name: statistics.median(run[name] for run in runs) for name in asked}
    ratios = {name: taken / seconds[PLAIN] for name, taken in seconds.items()}
    for name, taken in seconds.items():
        print(f"{name:>24}{taken:>10.3f} s{ratios[name]:>10.2f}")
    return {"steps": steps, "seconds": seconds, "ratio": ratios, "runs": runs}


def tasks(model: LatentModel, steps: int) -> dict[str, Task]:
    """A plain picture, and the same with what the model can be given beside the words."""
    card = model.card
    size = {"width": card.width, "height": card.height}
    maps = {kind: picture for kind, picture in _maps(**size).items() if kind in card.controls}
    shared: dict[str, Any] = {"prompt": PROMPT, "seed": 0, "steps": steps, "model": card.id, **size}
    led: dict[str, Any] = shared | {"detect": "never"}
    asked: dict[str, Task] = {PLAIN: TextToImage(**shared)}
    for kind, picture in maps.items():
        asked[f"control by {kind}"] = Controlled(**led, control_type=kind, control_image=picture)
    if len(maps) > 1:
        (one, first), (other, second) = list(maps.items())[:2]
        asked["two controls at once"] = Controlled(
            **led, control_type=one, control_image=first, control_type_2=other, control_image_2=second
        )
    if Inpaint.kind in card.tasks:
        picture = Image.new("RGB", (card.width, card.height), "teal")
        mask = Image.new("L", picture.size)
        mask.paste(255, tuple(side * share // 4 for share in (1, 3) for side in picture.size))
        asked["inpainting"] = Inpaint(**shared, image=picture, mask=mask)
    return asked


def _maps(width: int, height: int) -> dict[str, Image.Image]:
    person = draw([named_poses()["standing"]], width, height)
    slope = np.linspace(3, 1, height)[:, None].repeat(width, 1)
    return {"pose": person, "depth": depth_map(slope), "canny": edges(person)}


def _seconds(model: LatentModel, task: Task) -> float:
    begun = time.perf_counter()
    for _ in generate(model, task):
        pass
    return time.perf_counter() - begun
