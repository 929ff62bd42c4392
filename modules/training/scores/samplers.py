"""How near each sampler comes to true pictures, and to where fine steps lead, in so many network calls.

Classes are painted without words and without guidance: only then do all samplers aim at one distribution, the
network's own, and does a difference between them speak of nothing but the steps.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from modules.diffusion.samplers import SAMPLERS
from modules.models.latent import LatentModel
from modules.tasks import ClassConditional
from modules.training.scores.asking import likes
from modules.training.scores.distances import frechet, kernel_distance
from modules.training.scores.judge import judge, named, true_features
from modules.training.scores.looking import around, cut_out, spots
from modules.training.scores.painting import developed, latents_of
from modules.training.scores.plots import samplers_plot
from modules.training.scores.prompts import NAMES
from modules.training.toyland.emoji import CLASSES

FAMILIES = {
    "DDPM": "default", "DDIM": "default", "PNDM": "default", "Euler": "karras", "Euler a": "default",
    "Heun": "karras", "DPM++ 2M": "karras", "DPM++ 2M SDE": "karras", "UniPC": "karras",
}  # fmt: skip
FEW = (4, 8, 12, 20)
MANY = {"DDPM": (30, 50, 100, 250), "DDIM": (30, 50, 100, 250), "DPM++ 2M": (30, 50)}
"""Who is walked further: time is short, and the reference, its shortcut and the default matter most."""
FINE = "DDIM", 250
REFERENCE = "DDPM", 1000
DRAWS = 50  # of so many true pictures, to say what a distance would be at best


class Walk(NamedTuple):
    """One sampler at one number of network calls, and how many pictures of each class it paints."""

    sampler: str
    calls: int
    seeds: int


def walks(share: float) -> list[Walk]:
    """What is walked, the fine walk first, with which others are compared picture by picture."""
    if share < 0.5:
        return [Walk("DDIM", 30, 1), *(Walk(name, calls, 1) for name in MANY for calls in (4, 12))]
    one, two = max(1, round(share)), max(1, round(2 * share))
    many = [Walk(name, calls, one) for name, further in MANY.items() for calls in further]
    many.sort(key=lambda walk: (walk.sampler, walk.calls) != FINE)
    return [*many, *(Walk(name, calls, two) for name in FAMILIES for calls in FEW), Walk(*REFERENCE, one)]


def steps_for(sampler: str, calls: int) -> int:
    """The most steps that a sampler can make in so many network calls, at least two."""
    kind, steps = SAMPLERS[sampler], 2
    while kind.calls(steps + 1) <= calls and steps < kind.max_steps:
        steps += 1
    return steps


def samplers(model: LatentModel, share: float, out: Path) -> dict[str, Any]:
    """Each walk's distances from true pictures, how often its class is named, how far the fine picture is."""
    truth, fine, rows = np.concatenate(list(true_features().values())), torch.empty(0), []
    for walk in walks(share):
        labels = [label for _ in range(walk.seeds) for label in true_features()]
        latents = latents_of(model, [_task(walk, label, i) for i, label in enumerate(labels)])
        fine = latents if not rows else fine
        seen = named([cut_out(one, around(spots(one))) for one in developed(model, latents)])
        right = [got in likes(label) for got, label in zip(seen.labels, labels)]
        row: dict[str, Any] = {
            "sampler": walk.sampler, "schedule": FAMILIES[walk.sampler], "pictures": len(labels),
            "calls": SAMPLERS[walk.sampler].calls(steps_for(walk.sampler, walk.calls)),
            "right": round(float(np.mean(right)), 3),
            "frechet distance": round(frechet(seen.features, truth), 2),
            "kernel distance": round(kernel_distance(seen.features, truth), 3),
        }  # fmt: skip
        if not SAMPLERS[walk.sampler].stochastic:
            same = min(len(fine), len(latents))  # the first of each class, from the same noise
            off = (latents[:same] - fine[:same]).square().mean().sqrt()
            row["off the fine picture"] = round(float(off), 3)
        rows.append(row)
        print(row, flush=True)
    best = {count: at_best(count) for count in sorted({row["pictures"] for row in rows})}
    for (
        row
    ) in rows:  # as many of each class are not drawn at random: only as many true ones compare with them
        beyond = row["kernel distance"] - best[row["pictures"]]["kernel distance"]
        row["beyond true pictures"] = round(beyond, 3)
    scores = {
        "classes": [NAMES[label] for label in true_features()],
        "guidance": "none",
        "fine picture": f"{rows[0]['sampler']}, {rows[0]['calls']} calls",
        "true pictures": list(best.values()),
        "walks": sorted(rows, key=lambda row: (row["sampler"], row["calls"])),
    }
    samplers_plot(scores, out / "samplers.png")
    return scores


def _task(walk: Walk, label: str, i: int) -> ClassConditional:
    return ClassConditional(
        class_name=NAMES[label], class_scale=1.0, seed=400 + i,
        sampler=walk.sampler, schedule=FAMILIES[walk.sampler], steps=steps_for(walk.sampler, walk.calls),
    )  # fmt: skip


def at_best(pictures: int) -> dict[str, Any]:
    """The same measures of so many true pictures against the rest, the mean of DRAWS draws."""
    rng, every = np.random.default_rng(0), true_features()
    each, found = pictures // len(every), list[tuple[float, float]]()
    for _ in range(DRAWS):
        some, rest = [], []
        for features in every.values():
            order = rng.permutation(len(features))
            some.append(features[order[:each]])
            rest.append(features[order[each:]])
        one, other = np.concatenate(some), np.concatenate(rest)
        found.append((frechet(one, other), kernel_distance(one, other)))
    with torch.no_grad():
        right = [
            CLASSES[i] in likes(label)
            for label, features in every.items()
            for i in judge().things(torch.from_numpy(features)).argmax(1).tolist()
        ]
    fd, kd = np.mean(found, 0)
    return {
        "pictures": pictures, "right": round(float(np.mean(right)), 3),
        "frechet distance": round(float(fd), 2), "kernel distance": round(float(kd), 3),
    }  # fmt: skip
