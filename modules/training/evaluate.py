"""Pocket is scored here: JSON on stdout and contact sheets, from the shipped weights.

python -m modules.training.evaluate [--quick]
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from modules.engine.generation import Result, generate
from modules.images import to_tensor
from modules.models.catalog import read_catalogue
from modules.models.latent import LatentModel
from modules.models.loading import load
from modules.tasks import ClassConditional, Task, TextToImage
from modules.training.judge import load_judge
from modules.training.toyland.colours import FILLS, coat, hue_word
from modules.training.toyland.emoji import CLASS_NAMES

COMMON = ("apple", "cat face", "heart", "rocket", "smiling face", "car", "pizza", "star")
PAINTED = ("apple", "heart", "car", "rocket", "star", "cat face", "fish", "balloon", "t-shirt", "tulip")
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
GROUNDS = ("red", "yellow", "green", "blue", "purple", "pink", "black", "gray")


def painted(model: LatentModel, task: Task) -> np.ndarray:
    """The batch of a task, (B, H, W, 3) uint8, through the same door as the app."""
    *_, result = generate(model, task)
    assert isinstance(result, Result)
    return np.stack([np.asarray(picture) for picture in result.images])


def pictures_of(model: LatentModel, tasks: list[Task]) -> list[np.ndarray]:
    """Generate one picture a task, (256, 256, 3) uint8 each."""
    return [painted(model, task)[0] for task in tasks]


def name_things(model: LatentModel, judge: torch.nn.Module, pictures: list[np.ndarray]) -> list[str]:
    """What the judge calls the thing in each picture."""
    latents = torch.cat([model.encode(to_tensor(Image.fromarray(picture))) for picture in pictures])
    with torch.no_grad():
        return [CLASS_NAMES[i] for i in judge(latents.float()).argmax(1)]


def ground_word(picture: np.ndarray) -> str:
    """The fill word nearest to the picture's border, by distance in RGB."""
    border = np.concatenate(
        [picture[:6].reshape(-1, 3), picture[-6:].reshape(-1, 3), picture[:, :6].reshape(-1, 3)]
    )
    middle = np.median(border, 0)
    return min(FILLS, key=lambda word: np.abs(middle - np.array(FILLS[word])).sum())


def thing_word(picture: np.ndarray) -> str | None:
    """The commonest hue word of what is not ground; None where too little of it is coloured."""
    border = np.median(np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3)]), 0)
    away = np.abs(picture.astype(float) - border).sum(-1) > 60
    worn = coat(np.concatenate([picture, np.where(away, 255, 0).astype(np.uint8)[..., None]], -1))
    return hue_word(worn.hue) if worn.share > 0.2 else None


def contact_sheet(
    pictures: list[np.ndarray], titles: list[str], columns: int, side: int = 192
) -> Image.Image:
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 8) + 8, rows * (side + 26) + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x, y = 8 + (i % columns) * (side + 8), 8 + (i // columns) * (side + 26)
        sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + 2, y + side + 4), title[: side // 6], fill="#333")
    return sheet


def share(right: list[bool]) -> dict[str, float | int]:
    """How many of a list are right, as it goes into the scores."""
    return {"right": round(sum(right) / len(right), 3), "pictures": len(right)}


def evaluate(model: LatentModel, run: Path, out: Path, quick: bool) -> dict[str, Any]:
    """Score a model, and write scores.json and, unless `quick`, contact sheets; a judge names the things."""
    started = time.time()
    out.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Any] = {"model": model.hash, "quick": quick}
    scores |= {
        name: getattr(TextToImage(), name) for name in ("guidance_scale", "steps", "sampler", "schedule")
    }

    common = [TextToImage(prompt=name, seed=seed) for name in COMMON for seed in range(1 if quick else 4)]
    paints = list(itertools.product(PAINTED, PAINTS))[:: 5 if quick else 1]
    painted = [
        TextToImage(prompt=f"a {paint} {thing} on a white background", seed=7) for thing, paint in paints
    ]
    grounds = list(itertools.product(PAINTED[:4], GROUNDS))[:: 4 if quick else 1]
    grounded = [
        TextToImage(prompt=f"a {thing} on a {ground} background", seed=11) for thing, ground in grounds
    ]
    classes = CLASS_NAMES[:: 12 if quick else 2]
    classed = [ClassConditional(class_name=name, class_scale=4.0, seed=3) for name in classes]

    seen = {
        name: pictures_of(model, list(tasks))
        for name, tasks in (
            ("common", common),
            ("colours", painted),
            ("grounds", grounded),
            ("classes", classed),
        )
    }
    scores["colour"] = share([thing_word(p) == c for p, (_, c) in zip(seen["colours"], paints, strict=True)])
    scores["background"] = share(
        [ground_word(p) == g for p, (_, g) in zip(seen["grounds"], grounds, strict=True)]
    )
    if judged := load_judge(run / "judge.pt"):
        judge, scores["judge, on true pictures"] = judged
        for name, wanted in (("common", [t.prompt for t in common]), ("classes", classes)):
            named = name_things(model, judge, seen[name])
            scores[name] = share([a == b for a, b in zip(named, wanted, strict=True)])
    if not quick:
        contact_sheet(seen["common"], [f"{t.prompt}, seed {t.seed}" for t in common], 8).save(
            out / "common.png"
        )
        titles = [f"{paint} {thing}" for thing, paint in paints]
        contact_sheet(seen["colours"], titles, len(PAINTS), 128).save(out / "colours.jpg", quality=88)
        contact_sheet(seen["classes"], classes, 14, 96).save(out / "classes.jpg", quality=88)
    scores["seconds"] = round(time.time() - started)
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a model of presets/models.yaml")
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder with judge.pt")
    parser.add_argument("--out", type=Path, default=Path("assets/scores"))
    parser.add_argument("--quick", action="store_true", help="a few pictures of each kind, no contact sheets")
    args = parser.parse_args()
    model = load(read_catalogue()[args.model])
    print(json.dumps(evaluate(model, args.run, args.out, args.quick), indent=1))


if __name__ == "__main__":
    main()
