"""Pocket is scored here: JSON, a table, plots and contact sheets, from the shipped weights.

    python -m modules.training.evaluate [--quick] [--part NAME ...] [--data runs/toyland]

Parts may be run apart: what an earlier run of the same weights measured stays in scores.json, and the table
and the plots are made of all there is. Parts that compare with Toyland's own pictures need --data; all else
is in the repository, the judges too.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from modules.models.catalog import read_catalogue
from modules.models.latent import LatentModel
from modules.models.loading import load, set_threads
from modules.tasks import TextToImage
from modules.training.scores.attributes import attributes
from modules.training.scores.fidelity import fidelity
from modules.training.scores.inpainting import inpainting
from modules.training.scores.judge import manifest
from modules.training.scores.neighbours import neighbours
from modules.training.scores.pages import page
from modules.training.scores.prompts import GUIDANCE, SETS
from modules.training.scores.samplers import samplers
from modules.training.scores.table import table
from modules.training.scores.weights import guidance, negative, together

QUICK = 0.04  # of the pictures


class Job(NamedTuple):
    """What a part is given: the model, how many of its pictures to paint, where to write, and Toyland."""

    model: LatentModel
    share: float
    out: Path
    data: Path | None


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    **{
        name: functools.partial(lambda name, job: attributes(job.model, name, job.share, job.out), name)
        for name in SETS
    },
    "guidance": lambda job: guidance(job.model, job.share, job.out),
    "negative prompt": lambda job: negative(job.model, job.share),
    "two weights": lambda job: together(job.model, job.share, job.out),
    "samplers": lambda job: samplers(job.model, job.share, job.out),
    "autoencoder": lambda job: fidelity(job.model, job.share, job.data),
}
OF_TOYLAND: dict[str, Callable[[Job, Path], dict[str, Any]]] = {
    "neighbours": lambda job, data: neighbours(job.model, data, job.out),
    "inpainting": lambda job, data: inpainting(job.model, data, job.share),
    "toyland": lambda job, data: page(data, job.out),
}


def evaluate(job: Job, names: list[str], quick: bool) -> dict[str, Any]:
    """Run the parts named, each kept in scores.json as soon as it is done; the scores of all there are."""
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / "scores.json"
    scores = begun(path, job.model.hash, quick)
    for name in names:
        started = time.time()
        found = PARTS[name](job) if name in PARTS else OF_TOYLAND[name](job, job.data or Path())
        seconds = round(time.time() - started)
        scores["parts"][name] = {**found, "seconds": seconds}
        scores["seconds"] = sum(part["seconds"] for part in scores["parts"].values())
        path.write_text(json.dumps(scores, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (job.out / "scores.md").write_text(table(scores), "utf-8")
        print(f"{name}: {seconds} s", flush=True)
    return scores


def begun(path: Path, hash: str, quick: bool) -> dict[str, Any]:
    """The scores that are kept for these weights, or a beginning."""
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if kept.get("model") == hash and kept.get("quick") == quick and "parts" in kept:
        return kept
    settings = {name: getattr(TextToImage(), name) for name in ("steps", "sampler", "schedule")}
    return {
        "model": hash,
        "quick": quick,
        "settings": {"guidance_scale": GUIDANCE, **settings},
        "judges, on true pictures": manifest()["training"]["on true pictures"],
        "seconds": 0,
        "parts": {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a model of presets/models.yaml")
    parser.add_argument("--data", type=Path, help="made by modules.training.toyland; some parts need it")
    parser.add_argument("--out", type=Path, help="by itself assets/scores, or runs/scores with --quick")
    parser.add_argument("--quick", action="store_true", help="a few pictures of each kind")
    parser.add_argument(
        "--part", action="append", choices=[*PARTS, *OF_TOYLAND], help="may be given often; by itself all"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of pictures")
    args = parser.parse_args()
    set_threads()
    torch.set_grad_enabled(False)
    model = load(read_catalogue()[args.model])
    model.unet.to(memory_format=torch.channels_last)  # a tenth faster in batches
    out = args.out or Path("runs/scores" if args.quick else "assets/scores")
    job = Job(model, QUICK if args.quick else args.share, out, args.data)
    names = args.part or [*PARTS, *(OF_TOYLAND if args.data and not args.quick else ())]
    if missing := [name for name in names if name in OF_TOYLAND and args.data is None]:
        parser.error(f"{', '.join(missing)}: --data is needed")
    print(json.dumps(evaluate(job, names, args.quick), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
