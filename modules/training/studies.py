"""What guidance, negative prompts and masks do to Pocket is measured and drawn here.

python -m modules.training.studies --run RUN
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from modules.images import to_tensor
from modules.models.catalog import read_catalogue
from modules.models.latent import LatentModel
from modules.models.loading import load, set_threads
from modules.tasks import Inpaint, TextToImage
from modules.training.evaluate import PAINTS as ASKED
from modules.training.evaluate import name_things, painted, thing_word
from modules.training.judge import Judge, load_judge
from modules.training.toyland.colours import hsv, hue_word
from modules.training.toyland.compose import Item, Toyland, is_pair_held_out
from modules.training.toyland.emoji import CLASS_NAMES, CLASSES, SIZE

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 15.0)
REDDENED = ("apple", "heart", "car", "rose", "strawberry", "tomato", "balloon", "mushroom")


def features(model: LatentModel, judge: Judge, pictures: np.ndarray) -> torch.Tensor:
    """The judge's features (B, width) of pictures (B, H, W, 3) uint8."""
    latents = model.encode(to_tensor(*map(Image.fromarray, pictures)))
    with torch.no_grad():
        return judge.body(latents).mean((2, 3))


def guidance_sweep(
    model: LatentModel, judge: Judge, prompts: list[str], seeds: int
) -> list[dict[str, float]]:
    """At each scale: how often the judge names the thing asked for, and how far a prompt's pictures differ.

    Diversity is the root mean square distance of the judge's features from their mean over the seeds, as a
    share of the same distance over all pictures at scale 1.
    """
    rows: list[dict[str, float]] = []
    unit = 0.0
    for scale in SCALES:
        right, spread, everything = 0, [], []
        for prompt in prompts:
            task = TextToImage(prompt=prompt, guidance_scale=scale, seed=100, batch_size=seeds)
            found = features(model, judge, painted(model, task))
            with torch.no_grad():
                right += int((judge.head(found).argmax(1) == CLASS_NAMES.index(prompt)).sum())
            spread.append((found - found.mean(0)).square().sum(1).mean())
            everything.append(found)
        whole = torch.cat(everything)
        unit = unit or float((whole - whole.mean(0)).square().sum(1).mean())
        rows.append({
            "guidance_scale": scale,
            "right": round(right / (len(prompts) * seeds), 3),
            "diversity": round(float(torch.stack(spread).mean() / unit) ** 0.5, 3),
        })  # fmt: skip
    return rows


def redness(pictures: np.ndarray) -> float:
    """The share of clearly coloured pixels whose hue is called red; pictures (B, H, W, 3) uint8."""
    hue, saturation, value = hsv(np.concatenate(pictures)).transpose(2, 0, 1)
    seen = np.bincount(hue[(saturation > 90) & (value > 90)], minlength=256)
    return float(sum(seen[h] for h in range(256) if hue_word(h) == "red") / max(1, seen.sum()))


def negative_red(model: LatentModel, seeds: int) -> dict[str, Any]:
    """How red things often painted red become when "red" is what to steer away from."""
    shares: dict[str, list[float]] = {"": [], "red": []}
    for thing in REDDENED:
        for negative, found in shares.items():
            task = TextToImage(prompt=thing, negative_prompt=negative, seed=200, batch_size=seeds)
            found.append(redness(painted(model, task)))
    return {
        "things": list(REDDENED),
        "share of coloured pixels that are red, no negative prompt": round(float(np.mean(shares[""])), 3),
        'the same with "red" as negative prompt': round(float(np.mean(shares["red"])), 3),
    }


def inpainting(model: LatentModel, judge: Judge, data: Path, count: int) -> dict[str, Any]:
    """Things of Toyland pictures are masked and others painted there, in (thing, colour) pairs never seen.

    The seam is the mean step between neighbours across the mask's edge, over the mean step between
    neighbours elsewhere within 12 pixels of it; 1 means that the edge cannot be told from what is around it.
    """
    toyland, rng = Toyland(data), np.random.default_rng(2024)
    pairs = [(label, paint) for label in CLASSES for paint in ASKED if is_pair_held_out(label, paint)]
    named, coloured, kept, seams = [], [], [], []
    for label, paint in (pairs[i] for i in rng.permutation(len(pairs))[:count]):
        while (made := toyland.compose(rng)).layout != "single" or made.style != "3d" or made.size:
            pass
        picture = Image.fromarray(toyland.render(made))
        mask = around(made.items[0])
        thing = CLASS_NAMES[CLASSES.index(label)]
        task = Inpaint(
            prompt=f"a {paint} {thing} on a {made.ground} background", image=picture, mask=mask, seed=5
        )
        after, before, inside = painted(model, task)[0], np.asarray(picture), np.asarray(mask) > 127
        named.append(name_things(model, judge, [after]) == [thing])
        coloured.append(thing_word(after) == paint)
        kept.append(bool((after[~inside] == before[~inside]).all()))
        seams.append(seam(after, inside))
    return {
        "cases": len(named),
        "thing right": round(float(np.mean(named)), 3),
        "colour right": round(float(np.mean(coloured)), 3),
        "unmasked pixels untouched": round(float(np.mean(kept)), 3),
        "seam, median": round(float(np.median(seams)), 2),
        "seam at most 1": round(float(np.mean(np.array(seams) <= 1)), 3),
    }


def around(item: Item) -> Image.Image:
    """A mask over a thing of a composition and its shadow, with some room."""
    side = item.scale * SIZE
    x, y = item.centre[0] * SIZE, item.centre[1] * SIZE
    mask = Image.new("L", (SIZE, SIZE), 0)
    reach = side * 0.62
    ImageDraw.Draw(mask).ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return mask


def seam(picture: np.ndarray, inside: np.ndarray) -> float:
    """How much larger the steps across a mask's edge are than other steps near it."""
    near = ndimage.distance_transform_edt(inside) + ndimage.distance_transform_edt(~inside) <= 12
    across, around = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(picture.astype(np.float64), axis=axis)).mean(-1)
        crossing = np.diff(inside, axis=axis)
        close = np.delete(near, -1, axis) & ~crossing
        across.append(steps[crossing])
        around.append(steps[close])
    return float(np.concatenate(across).mean() / max(0.5, np.concatenate(around).mean()))


def draw_sweep(rows: list[dict[str, float]], path: Path) -> None:
    """Accuracy and diversity against guidance."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scales = [row["guidance_scale"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    axes.plot(scales, [row["right"] for row in rows], color="#b8430c", marker="o", label="thing named right")
    axes.plot(scales, [row["diversity"] for row in rows], color="#1c6c86", marker="s", label="diversity")
    axes.set(xlabel="guidance scale", ylim=(0, 1), title="Pocket: what guidance buys, and what it costs")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a model of presets/models.yaml")
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder with judge.pt")
    parser.add_argument(
        "--data", type=Path, help="made by modules.training.toyland; without it no inpainting"
    )
    parser.add_argument("--cases", type=int, default=50, help="how many masks to paint")
    parser.add_argument("--out", type=Path, default=Path("assets/scores"))
    parser.add_argument("--things", type=int, default=10, help="how many things to ask for at each scale")
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each")
    args = parser.parse_args()
    set_threads()
    judged = load_judge(args.run / "judge.pt")
    if judged is None:
        raise SystemExit(f"{args.run / 'judge.pt'} is missing: python -m modules.training.judge trains it.")
    judge, own = judged
    model, started = load(read_catalogue()[args.model]), time.time()
    prompts = CLASS_NAMES[:: max(1, len(CLASS_NAMES) // args.things)][: args.things]
    study = {
        "model": model.hash,
        "judge, on true pictures": own,
        "guidance": guidance_sweep(model, judge, prompts, args.seeds),
        "negative prompt": negative_red(model, args.seeds),
    }
    if args.data:
        study["inpainting"] = inpainting(model, judge, args.data, args.cases)
    study["seconds"] = round(time.time() - started)
    args.out.mkdir(parents=True, exist_ok=True)
    draw_sweep(study["guidance"], args.out / "guidance.png")
    (args.out / "studies.json").write_text(json.dumps(study, indent=1) + "\n")
    print(json.dumps(study, indent=1))


if __name__ == "__main__":
    main()
