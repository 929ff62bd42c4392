"""Every number in the README is measured here, part by part, on the machine that runs it.

python -m modules.bench --parts start panel speed queue page
python -m modules.bench [--model pocket] [--steps 20] [--repeats 3] [--batches 1 4] [--threads 1 2]
python -m modules.bench --parts runtimes [--size 512] [--steps 4]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def first_use(args: argparse.Namespace) -> dict[str, Any]:
    """How soon the page answers and the first picture is there."""
    from modules.bench import start

    return start.bench(args.model, args.device)


def redraws(args: argparse.Namespace) -> dict[str, Any]:
    """How long the levels for one redraw of the panel take, and the redraw itself in a browser."""
    from modules.bench import browser, panel

    return panel.bench(args.model) | browser.redraws(args.model, args.repeats)


def pictures(args: argparse.Namespace) -> dict[str, Any]:
    """The table of where the time of a picture goes, printed as it grows."""
    from modules.bench import speed

    return speed.speed(args)


def race(args: argparse.Namespace) -> dict[str, Any]:
    """The race of runtimes on a U-Net of Stable Diffusion's size."""
    from modules.bench import speed

    return speed.race(args)


def jobs(args: argparse.Namespace) -> dict[str, Any]:
    """What a job costs beside its own work."""
    from modules.bench import queue

    return queue.bench(args.repeats)


def page(args: argparse.Namespace) -> dict[str, Any]:
    """What the page weighs as it opens, and how soon a first preview is seen."""
    from modules.bench import browser

    return browser.page(args.model, args.repeats)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "start": first_use,
    "panel": redraws,
    "speed": pictures,
    "runtimes": race,
    "queue": jobs,
    "page": page,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print what was measured, part by part, and write the record where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m modules.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed"], help="what to measure")
    parser.add_argument("--model", default="pocket", help="a model of the catalogue, or a folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="20, and 4 in the race of runtimes, if not given")
    parser.add_argument("--size", type=int, default=512, help="pixels a side in the race of runtimes")
    parser.add_argument("--repeats", type=int, default=3, help="measured runs of each")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, nargs="+", help="1 and all of this machine's, if not given")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="write the whole record to this JSON file")
    args = parser.parse_args(argv)
    records = {}
    for part in args.parts:
        try:
            records[part] = PARTS[part](args)
        except RuntimeError as error:  # in words: a studio that does not start, a browser that is not there
            sys.exit(str(error))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        written = records if len(records) > 1 else records[args.parts[0]]
        args.out.write_text(json.dumps(written, indent=1), "utf-8")
