"""What each guidance weight buys and what it costs, and what a negative prompt takes away."""

from pathlib import Path
from typing import Any

import numpy as np

from modules.models.latent import LatentModel
from modules.tasks import ClassConditional, TextToImage
from modules.training.scores.asking import Wanted, answers, likes, share
from modules.training.scores.distances import spread
from modules.training.scores.judge import named
from modules.training.scores.looking import around, cut_out, redness, spots
from modules.training.scores.painting import paint
from modules.training.scores.plots import lines
from modules.training.scores.prompts import CLEAR, NAMES

STEPS = 12  # what guidance does shows as well at few steps
SCALES = (1.0, 2.0, 3.5, 6.0, 10.0, 15.0)
REDDENED = ("red apple", "red heart", "automobile", "rose", "strawberry", "tomato", "balloon", "mushroom")
TURNED = (0.0, 1.0, 3.0, 6.0)
FIXED = 3.0
GROUNDS = ("red", "yellow", "green", "blue", "purple", "black")


def guidance(model: LatentModel, share_of: float, out: Path) -> dict[str, Any]:
    """At each scale: how often the thing asked for is named, and how far a prompt's pictures differ."""
    labels = CLEAR[: max(4, round(8 * share_of))]
    seeds = max(2, round(3 * share_of))
    scales = SCALES if share_of >= 0.5 else (1.0, 4.0, 15.0)
    rows = []
    for scale in scales:
        tasks = [
            TextToImage(prompt=NAMES[label], guidance_scale=scale, steps=STEPS, seed=100 + seed)
            for label in labels
            for seed in range(seeds)
        ]
        seen = named([cut_out(one, around(spots(one))) for one in paint(model, tasks)])
        right = [seen.labels[i] in likes(labels[i // seeds]) for i in range(len(tasks))]
        apart = spread(np.split(seen.features, len(labels)))
        rows.append({"scale": scale, "thing": share(right), "diversity": apart})
    whole = rows[0]["diversity"]
    rows = [{**row, "diversity": round(row["diversity"] / whole, 3)} for row in rows]
    drawn = {
        "thing named right": [(row["scale"], row["thing"]["right"]) for row in rows],
        "diversity (1 at scale 1)": [(row["scale"], row["diversity"]) for row in rows],
    }
    lines(drawn, "guidance scale", "What guidance buys, and what it costs", out / "guidance.png")
    return {"steps": STEPS, "scales": rows}


def negative(model: LatentModel, share_of: float) -> dict[str, Any]:
    """How red things often painted red become when "red" is what to steer away from."""
    labels = REDDENED if share_of >= 0.5 else REDDENED[:4]
    seeds, found = max(1, round(2 * share_of)), dict[str, float]()
    for word in ("", "red"):
        tasks = [
            TextToImage(prompt=NAMES[label], negative_prompt=word, steps=STEPS, seed=200 + seed)
            for label in labels
            for seed in range(seeds)
        ]
        found[word] = round(float(np.mean([redness(one[None]) for one in paint(model, tasks)])), 3)
    return {
        "pictures": len(labels) * seeds,
        "share of coloured pixels that are red": found[""],
        'the same with "red" as negative prompt': found["red"],
    }


def together(model: LatentModel, share_of: float, out: Path) -> dict[str, Any]:
    """A class token says what, words say on which ground; each weight is turned up while the other stays."""
    labels = CLEAR[: max(4, round(8 * share_of))]
    turned = TURNED if share_of >= 0.5 else TURNED[::3]
    settings = {(scale, FIXED) for scale in turned} | {(FIXED, scale) for scale in turned}
    measured = {one: _together(model, labels, *one) for one in sorted(settings)}
    by_class = [{"class scale": scale, **measured[scale, FIXED]} for scale in turned]
    by_words = [{"guidance scale": scale, **measured[FIXED, scale]} for scale in turned]
    drawn = {
        "class named right, class weight turned": [(r["class scale"], r["class"]["right"]) for r in by_class],
        "ground right, words' weight turned": [(r["guidance scale"], r["ground"]["right"]) for r in by_words],
        "class named right, words' weight turned": [
            (r["guidance scale"], r["class"]["right"]) for r in by_words
        ],
    }
    lines(
        drawn,
        f"the weight turned; the other stays at {FIXED:g}",
        "Two weights, each with its say",
        out / "weights.png",
    )
    return {"steps": STEPS, "class turned": by_class, "words turned": by_words}


def _together(
    model: LatentModel, labels: tuple[str, ...], class_scale: float, guidance_scale: float
) -> dict[str, Any]:
    grounds = [GROUNDS[i % len(GROUNDS)] for i in range(len(labels))]
    tasks = [
        ClassConditional(
            prompt=f"on a {ground} background", guidance_scale=guidance_scale, steps=STEPS,
            class_name=NAMES[label], class_scale=class_scale, seed=300 + i,
        )
        for i, (label, ground) in enumerate(zip(labels, grounds))
    ]  # fmt: skip
    wanted = [Wanted(things=((label,),), ground=ground) for label, ground in zip(labels, grounds)]
    told = answers(paint(model, tasks), wanted)
    return {"class": share([one["thing"] for one in told]), "ground": share([one["ground"] for one in told])}
